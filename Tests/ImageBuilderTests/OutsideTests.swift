import Documents
import Files
@testable import ImageBuilder
import Testing

/// What a definition says of documents and devices from outside.
@Suite final class OutsideTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-outside") }

    deinit { try? FileSystem.remove(folder) }

    private func read(_ more: String) throws -> Definition {
        try FileSystem.replace(
            "\(folder)/i.yaml",
            with: "name: i\nversion: 1\nbase: {suite: trixie, architecture: amd64}\nprofiles: [virtio]\n\(more)")
        return try Definition.read("\(folder)/i.yaml")
    }

    private func problems(_ more: String) -> [Problem] {
        thrown(InvalidDocument.self) { try read(more) }?.problems ?? []
    }

    /// PID 1 and the engine read these lines.
    @Test func theImageGetsItsWords() throws {
        #expect(try read("").outside.words == "")
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm"
        let all = try read(
            "site-keys: [\"\(key)\"]\nsite-keys-required: true\nusb-sites: false\nhotplug: false\n"
                + "usb-classes: [storage, communication]\n")
        #expect(
            all.outside.words == "site-keys-required yes\nusb-sites no\nhotplug no\nusb-classes 9 8 2 10\n")
        #expect(try read("usb-classes: []\n").outside.words == "usb-classes 9\n")
    }

    @Test func whatCannotWorkIsRefused() throws {
        let keyless = try #require(problems("site-keys-required: true\n").first)
        #expect(keyless.path == "site-keys-required" && keyless.position.line == 5 && keyless.hint != nil)
        #expect(problems("usb-classes: [storage, disks]\n").map(\.path) == ["usb-classes[1]"])
    }
}
