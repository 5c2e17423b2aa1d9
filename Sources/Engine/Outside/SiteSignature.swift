import Files
import Glibc
import Processes

extension Places {
    /// Whether one of the image's keys has signed a text, in the words of ssh-keygen(1), for nothing but this.
    ///
    /// - Throws: why it has not, or why nobody can know.
    func verifySite(_ text: [UInt8], _ signature: [UInt8]?) throws {
        guard FileSystem.exists(siteKeys) else {
            throw EngineError("this image names no key (site-keys) that could sign another")
        }
        guard let signature else { throw EngineError("there is no \(StickReader.signature) beside it") }
        let folder = try FileSystem.makeTemporaryDirectory(in: state, prefix: FileSystem.temporaryPrefix + "sig")
        defer { try? FileSystem.remove(folder) }
        try FileSystem.replace("\(folder)/signature", with: signature, mode: 0o644)
        let words = [
            "-Y", "verify", "-f", siteKeys, "-I", "site", "-n", "vcpe-site", "-s", "/signature",
        ]
        var command = Command("/usr/bin/ssh-keygen", words)
        // What a stick says is not parsed by root. The program asks who it is: that must be a user that there is.
        command.sandbox = .onBox(
            user: Self.nobody,
            folders: [.init("\(folder)/signature", at: "signature")] + (try Sandbox.Folder.lacking(of: [siteKeys])))
        command.sandbox?.purpose = .checking
        let result = try command.begin(input: .temporary(holding: text)).finish(deadline: 10, limit: 64 << 10)
        guard result.status == 0 else {
            let lines = (result.text + result.errorText).split(separator: "\n").joined(separator: "; ")
            throw EngineError("its signature is not one of the image's keys: \(lines)")
        }
    }

    /// Debian's user of that name (base-passwd).
    private static let nobody: UInt32 = 65_534
}
