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
    public mutating func setSpareLoader(_ bytes: [UInt8]) throws(SlotFailure) {
        try repair()
        try volume.write(bytes, to: Self.spareFile)
        guard try spareLoader() == bytes else {
            throw SlotFailure("\(Self.spareFile): what was written is not what is there")
        }
    }

    /// Has the firmware start the spare one by itself from now on: the old one is there, or the new one, wherever power fails.
    public mutating func adoptSpareLoader() throws(SlotFailure) {
        try repair()
        try volume.write(try spareLoader(), to: Self.loaderFile)
    }
}
