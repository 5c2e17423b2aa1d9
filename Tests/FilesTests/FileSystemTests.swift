import Files
import Glibc
import Testing

@Suite final class FileSystemTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-files") }

    deinit { try? FileSystem.remove(folder) }

    @Test func replacingLeavesNothingBehindWhenItFails() throws {
        try FileSystem.replace("\(folder)/a", with: "old")
        struct Stop: Error {}
        #expect(throws: Stop.self) {
            try FileSystem.replace("\(folder)/a") { (file: File) throws(any Error) in
                try file.write(Array("half".utf8), at: 0)
                throw Stop()
            }
        }
        #expect(try FileSystem.read("\(folder)/a") == Array("old".utf8))
        #expect(try FileSystem.list(folder) == ["a"])
        try FileSystem.remove(folder)
        #expect(!FileSystem.exists(folder))
    }

    @Test func removingDoesNotFollowLinks() throws {
        try FileSystem.makeDirectory("\(folder)/kept/deep")
        try FileSystem.makeDirectory("\(folder)/gone")
        symlink("../kept", "\(folder)/gone/link")
        try FileSystem.remove("\(folder)/gone")
        #expect(FileSystem.exists("\(folder)/kept/deep"))
        try FileSystem.remove(folder)
    }

    @Test func errorsNameCallSubjectAndErrno() {
        #expect(throws: SystemError("open", "/nonexistent/x", code: ENOENT)) { try File("/nonexistent/x") }
        #expect(
            "\(SystemError("open", "/nonexistent/x", code: ENOENT))"
                == "/nonexistent/x: open: No such file or directory (ENOENT)")
    }
}
