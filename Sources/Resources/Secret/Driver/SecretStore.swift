import Files
import Glibc
import Planning
import PluginKit
import Processes

extension SecretResource: DrivenResource { typealias ItsDriver = SecretDriver }

/// Makes the secrets of a plan.
struct SecretDriver: Driver {
    static let watch = DriftWatch.none

    private let store: SecretStore

    init(_ context: DriverContext) { store = context.secrets }

    func steps(_ change: KindChange<SecretResource>) -> [Step] {
        [Step(.secrets) { try self.store.make(change.wanted) }]
    }
}

/// Secrets that plugins plan: made once, and kept on the data partition for root alone. Plans, commits
/// and logs have only their names. A secret that no plan has any more is kept for a rollback.
struct SecretStore {
    let folder: String
    /// For what programs make on the way, in memory.
    let scratch: String

    private func path(_ name: String) -> String { "\(folder)/\(name)" }

    /// Makes the missing ones.
    ///
    /// - Parameter seconds: that the programs may take together: the engine waits for them.
    func make(_ wanted: [SecretResource], within seconds: Double = SecretStore.patience) throws {
        let end = Uptime.milliseconds + Int(seconds * 1000)
        for secret in wanted where !FileSystem.exists(path(secret.name)) {
            let name = secret.name
            try FileSystem.makeDirectory(folder)
            chmod(folder, 0o700)
            let bytes =
                switch secret.source {
                case .bytes(let count): random(count)
                case .program(let words): try made(by: words, for: name, until: end)
                }
            try FileSystem.replace(path(name), with: bytes, mode: 0o600)
            try FileSystem.syncDirectory(folder)
        }
    }

    private func random(_ count: Int) -> [UInt8] {
        var random = SystemRandomNumberGenerator()
        return (0..<count).flatMap { _ in
            let byte = UInt8.random(in: .min ... .max, using: &random)
            return Array(((byte < 16 ? "0" : "") + String(byte, radix: 16)).utf8)
        }
    }

    /// Seconds that the secrets of a plan may take together, as the checks of its files may.
    static let patience = 10.0
    /// Bytes that a program may make.
    private static let most = 64 << 10

    private static let user = UInt32(ProgramUser.number)

    /// Runs a program of the image, confined: it sees the image and the folder for its file.
    ///
    /// - Parameter end: in milliseconds of the kernel's time.
    private func made(by words: [String], for name: String, until end: Int) throws -> [UInt8] {
        let scratch = try FileSystem.makeTemporaryDirectory(in: scratch, prefix: FileSystem.temporaryPrefix + "made")
        defer { try? FileSystem.remove(scratch) }
        let file = "\(try FileSystem.realPath(scratch))/secret"
        let arguments = words.dropFirst().map { $0 == "${file}" ? file : $0 }
        let result: Command.Result
        do {
            let rest = Double(max(0, end - Uptime.milliseconds)) / 1000
            var program = Command(words[0], arguments)
            guard chown(scratch, Self.user, Self.user) == 0 else { throw SystemError("chown", scratch) }
            program.imageProgram = ImageProgram(
                user: Self.user, group: Self.user, writable: [try FileSystem.realPath(scratch)])
            result = try program.begin().finish(deadline: rest, limit: Self.most)
        } catch {
            let isLate = Uptime.milliseconds >= end
            throw EngineError(
                "the secret \(name) can't be made: "
                    + (isLate
                        ? "\(words[0]) was killed: all secrets of a plan may take \(Int(Self.patience)) s together"
                        : "\(error)"))
        }
        // What lies there is the program's: a link or a device of it is not followed.
        let made = try? Folder(scratch).openFile("secret").read(Self.most + 1, at: 0)
        let bytes = words.contains("${file}") ? made ?? [] : result.output
        guard result.status == 0, (1...Self.most).contains(bytes.count) else {
            throw EngineError(
                "the secret \(name) can't be made: \(words[0]) ended with \(result.status): \(result.errorText.prefix(200))"
            )
        }
        return bytes
    }

    /// - Throws: for a secret that was never made.
    func filled(_ content: String) throws -> String {
        try Secrets.filled(content) { name in
            guard !name.contains("/"), let bytes = try? FileSystem.read(path(name)) else {
                throw EngineError("there is no secret \(name)")
            }
            return String(decoding: bytes, as: UTF8.self)
        }
    }
}
