import Documents
import Files
import Glibc
import Processes
import Slots

/// Reads a site document and its signature from a stick of unknown origin, in a process that can do
/// nothing else: the kernel mounts nothing, and an attacker in that process has the stick's bytes
/// alone.
public enum StickReader {
    /// What the engine's program is called with for it.
    public static let verb = "read-stick"
    static let (document, signature) = ("site.yaml", "site.yaml.sig")
    /// Bytes of a document, and of its signature.
    static let (most, mostOfSignature) = (4 << 20, 64 << 10)
    /// A user beside those of plugins.
    private static let user: UInt32 = 64_990
    /// Seconds.
    private static let deadline = 25.0

    /// - Parameter device: a path.
    /// - Throws: why there is no document.
    static func read(_ device: String) throws -> (document: [UInt8], signature: [UInt8]?) {
        let program = CommandLine.arguments.first ?? ""
        var command = Command(program, [verb])
        command.sandbox = .onBox(user: user, folders: try Sandbox.Folder.lacking(of: [program]))
        command.argumentZero = program
        let result = try command.begin(input: File(device, O_RDONLY | O_NONBLOCK)).finish(
            deadline: deadline, limit: most + mostOfSignature + 64)
        guard result.status == 0 else {
            throw EngineError(String(result.errorText.split(separator: "\n").first?.prefix(300) ?? "its reader ended"))
        }
        var rest = result.output[...]
        guard let document = part(&rest) else { throw EngineError("its reader gave no document") }
        return (document, part(&rest))
    }

    /// Takes `LENGTH\n` and so many bytes from the front.
    private static func part(_ rest: inout ArraySlice<UInt8>) -> [UInt8]? {
        guard let end = rest.firstIndex(of: 0x0A), let count = Int(String(decoding: rest[..<end], as: UTF8.self)),
            count > 0, rest.endIndex - end - 1 >= count
        else { return nil }
        defer { rest = rest[(end + 1 + count)...] }
        return Array(rest[(end + 1)..<(end + 1 + count)])
    }

    /// In the process: the device is standard input.
    ///
    /// - Returns: its exit code.
    public static func run() -> Int32 {
        do {
            let files = try FATFiles(File(descriptor: dup(0), path: "the stick"))
            guard let text = try files.read(document, limit: most), !text.isEmpty else {
                throw EngineError("it has no \(document) of 1 to \(most) bytes")
            }
            let output = File(descriptor: dup(1), path: "standard output")
            try output.append(Array("\(text.count)\n".utf8) + text)
            if let bytes = try files.read(signature, limit: mostOfSignature) {
                try output.append(Array("\(bytes.count)\n".utf8) + bytes)
            }
            return 0
        } catch {
            Log.say("\(error)")
            return 1
        }
    }
}
