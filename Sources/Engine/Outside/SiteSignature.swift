import Files
import Glibc
import PluginKit
import Processes

extension Places {
    /// Whether one of the image's keys has signed a text, in the words of ssh-keygen(1), for
    /// nothing but this.
    ///
    /// - Throws: when none has, and when the image has no keys.
    func verifySite(_ text: [UInt8], _ signature: [UInt8]?) throws {
        guard FileSystem.exists(siteKeys) else {
            throw EngineError("this image names no key (site-keys) that could sign another")
        }
        guard let signature else { throw EngineError("there is no \(StickReader.signature) beside it") }
        let folder = try FileSystem.realPath(
            FileSystem.makeTemporaryDirectory(in: state, prefix: FileSystem.temporaryPrefix + "sig"))
        defer { try? FileSystem.remove(folder) }
        chmod(folder, 0o755)
        try FileSystem.replace("\(folder)/signature", with: signature, mode: 0o644)
        let words = [
            "-Y", "verify", "-f", siteKeys, "-I", "site", "-n", "vcpe-site", "-s", "\(folder)/signature",
        ]
        var command = Command("/usr/bin/ssh-keygen", words)
        // Root does not parse a signature of unknown origin.
        let user = UInt32(ProgramUser.number)
        command.imageProgram = ImageProgram(
            user: user, group: user, visible: [folder, try FileSystem.realPath(siteKeys)])
        let result = try command.begin(input: .temporary(holding: text)).finish(deadline: 10, limit: 64 << 10)
        guard result.status == 0 else {
            let lines = (result.text + result.errorText).split(separator: "\n").joined(separator: "; ")
            throw EngineError("its signature is not one of the image's keys: \(lines)")
        }
    }
}
