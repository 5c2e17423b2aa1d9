import Files
import Glibc

/// The running box's disk, as PID 1 found it (`/run/vcpe/boot`).
public struct BoxDisk: Sendable {
    /// The words of that file, by their first.
    private let words: [String: String]

    /// - Throws: where PID 1 has left nothing: not on a box.
    public init(_ path: String = "/run/vcpe/boot") throws(SlotFailure) {
        do { words = try FileSystem.words(path) } catch { throw SlotFailure("this is no running box: \(error)") }
    }

    /// Held by who changes slots or what is on the EFI system partition, until the file is closed.
    ///
    /// - Parameters:
    ///   - data: where the data partition is.
    ///   - waits: until whoever holds it is done.
    /// - Returns: nil where somebody else holds it.
    public static func lock(data: String = "/data", waits: Bool = true) throws(SystemError) -> File? {
        try FileSystem.makeDirectory("\(data)/vcpe/upgrade")
        let file = try File("\(data)/vcpe/upgrade/lock", O_RDWR | O_CREAT)
        while flock(file.descriptor, waits ? LOCK_EX : LOCK_EX | LOCK_NB) != 0 {
            if errno == EWOULDBLOCK { return nil }
            guard errno == EINTR else { throw SystemError("flock", file.path) }
        }
        return file
    }

    /// `root-a` or `root-b`.
    public var slot: String { words["slot"] ?? "" }
    public var otherSlot: String { slot == "root-a" ? "root-b" : "root-a" }

    /// The device of a partition.
    public func device(_ partition: String) throws(SlotFailure) -> String {
        guard let device = words[partition] else { throw SlotFailure("PID 1 names no \(partition)") }
        return device
    }

    /// The name of the boot entry that was started, a release's or the way back to the factory's document; empty on a box that was started without a
    /// boot loader.
    public var entryName: String { words["entry"] ?? "" }
    /// This release is new: the loader counts its starts.
    public var isOnTrial: Bool { words["trial"] == "yes" }
    /// This release was started since the other had failed too often.
    public var isFallback: Bool { words["jump"] == "yes" }
    /// Why the start before failed; empty where it did not.
    public var lastReason: String { words["reason"] ?? "" }
}
