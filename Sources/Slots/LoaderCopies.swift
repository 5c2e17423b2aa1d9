import Files

/// The two copies of the boot loader: the one that the firmware starts by itself, and a spare one, by which another loader is tried.
extension BootPartition {
    private static let loaderFile = "EFI/BOOT/BOOTX64.EFI"
    private static let spareFile = "EFI/systemd/systemd-bootx64.efi"

    /// Where the firmware finds the spare one, as its boot entries write it.
    public static let sparePath = "\\" + spareFile.split(separator: "/").joined(separator: "\\")

    /// What the firmware starts by itself.
    public func loader() throws(SlotFailure) -> [UInt8] { try volume.read(Self.loaderFile) }

    public func spareLoader() throws(SlotFailure) -> [UInt8] { try volume.read(Self.spareFile) }

    /// The firmware starts it only where a boot entry of its own names it.
    public mutating func setSpareLoader(_ bytes: [UInt8], forgetBuffers: () -> Void = {}) throws(SlotFailure) {
        try put(bytes, as: Self.spareFile, forgetBuffers)
    }

    /// Has the firmware start the spare one by itself from now on: the old one is there, or the new one, wherever power fails.
    public mutating func adoptSpareLoader(forgetBuffers: () -> Void = {}) throws(SlotFailure) {
        try put(try spareLoader(), as: Self.loaderFile, forgetBuffers)
    }

    /// - Parameter forgetBuffers: has what is read next come from the disk itself.
    private mutating func put(
        _ bytes: [UInt8], as path: String, _ forgetBuffers: () -> Void
    ) throws(SlotFailure) {
        try repair()
        let room = try volume.room(for: bytes.count)
        try room.put(bytes, at: 0)
        try room.wait()
        forgetBuffers()
        // Before it has a name.
        guard try room.bytes(bytes.count, at: 0) == bytes else {
            throw SlotFailure("\(path): what was written is not what is there, and stays without a name")
        }
        try volume.publish(room, as: path)
    }
}
