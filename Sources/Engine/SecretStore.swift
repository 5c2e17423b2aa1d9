import Files
import Glibc
import Planning
import PluginKit

/// Secrets that plugins plan: random bytes, made once, kept on the data partition for root alone, and shown to nobody.
/// Plans, commits and logs hold their names. What no plan wants any more is kept, too: a document that is put back finds it.
struct SecretStore {
    let folder: String

    private func path(_ name: String) -> String { "\(folder)/\(name)" }

    /// Makes those of a plan that aren't there.
    func make(_ resources: [Resource]) throws {
        for case .secret(let name, let bytes) in resources where !FileSystem.exists(path(name)) {
            try FileSystem.makeDirectory(folder)
            chmod(folder, 0o700)
            var random = SystemRandomNumberGenerator()
            let text = (0..<bytes).map { _ in
                let byte = UInt8.random(in: .min ... .max, using: &random)
                return (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
            try FileSystem.replace(path(name), with: text.joined(), mode: 0o600)
            try FileSystem.syncDirectory(folder)
        }
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
