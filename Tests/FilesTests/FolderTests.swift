import Files
import Glibc
import TestSupport
import Testing

@Suite final class FolderTests {
    private let path: String
    private let folder: Folder
    /// Another user than this process, if it may give files away.
    private let other: uid_t = geteuid() == 0 ? 7 : geteuid()

    init() throws {
        path = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-folder")
        try FileSystem.makeDirectory("\(path)/victim/inner")
        try FileSystem.replace("\(path)/victim/conf", with: "precious")
        try FileSystem.makeDirectory("\(path)/own")
        folder = try Folder("\(path)/own")
    }

    deinit { try? FileSystem.remove(path) }

    private func thrown(_ body: () throws -> Void) -> Int32? {
        do { try body() } catch { return (error as? SystemError)?.code }
        return nil
    }

    @Test(arguments: ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/..", "../victim", "a\0b"])
    func aPathThatIsNotBelowIsRefused(_ wrong: String) throws {
        try folder.makeDirectory("a")
        #expect(thrown { _ = try folder.open(wrong) } == EINVAL)
        #expect(thrown { _ = try folder.openFile(wrong) } == EINVAL)
        #expect(thrown { _ = try folder.status(wrong) } == EINVAL)
        #expect(thrown { try folder.makeDirectory(wrong) } == EINVAL)
        #expect(thrown { try folder.replace(wrong, with: [], FileAttributes(mode: 0o600)) } == EINVAL)
        #expect(thrown { try folder.remove(wrong) } == EINVAL)
        #expect(thrown { try folder.rename("a", to: wrong) } == EINVAL)
    }

    @Test func linksAreNotFollowed() throws {
        try folder.link("link", to: "../victim")
        #expect(thrown { _ = try folder.open("link") } == ELOOP)
        #expect(thrown { _ = try folder.openFile("link/conf") } == ELOOP)
        #expect(thrown { try folder.makeDirectory("link/new") } == ELOOP)
        #expect(thrown { _ = try folder.create("link/new", mode: 0o600) } == ELOOP)
        #expect(thrown { try folder.replace("link/conf", with: [], FileAttributes(mode: 0o600)) } == ELOOP)
        try folder.remove("link/conf")
        try folder.unlink("link/conf")
        try folder.removeEmptyDirectory("link/inner")
        let (status, size) = (try folder.status("link/conf"), try folder.size(of: "link/conf"))
        #expect(status == nil && size == 0)
        #expect(try FileSystem.list("\(path)/victim") == ["conf", "inner"])
        let target = try folder.linkTarget("link")
        #expect(target == "../victim")
        try folder.remove("link")
        #expect(try folder.list() == [] && FileSystem.exists("\(path)/victim/conf"))
    }

    @Test(arguments: [Obstacle.link, .danglingLink, .file, .pipe])
    func aFolderReplacesWhatHasItsPlace(_ obstacle: Obstacle) throws {
        for place in ["a", "a/b", "a/b/c"] {
            try folder.makeDirectory("a/b/c")
            try obstacle.put("\(path)/own/\(place)", victim: "\(path)/victim")
            let code = thrown { try folder.makeDirectory("a/b/c") }
            #expect(code == ELOOP || code == ENOTDIR, "\(obstacle) at \(place)")
            try folder.makeDirectory("a/b/c", FileAttributes(user: other, group: other, mode: 0o1750), replacing: true)
            let status = try folder.open("a/b").status("c")
            #expect(
                status.map { FileAttributes($0) } == FileAttributes(user: other, group: other, mode: 0o1750),
                "\(obstacle) at \(place)")
        }
        #expect(try FileSystem.list("\(path)/victim") == ["conf", "inner"])
    }

    @Test(arguments: Obstacle.allCases)
    func aFileReplacesWhatHasItsPlace(_ obstacle: Obstacle) throws {
        try folder.makeDirectory("a")
        try obstacle.put("\(path)/own/a/conf", victim: "\(path)/victim/conf")
        let attributes = FileAttributes(user: other, group: other, mode: 0o4666)
        try folder.replace("a/conf", with: Array("new".utf8), attributes)
        let file = try folder.openFile("a/conf")
        let (status, bytes) = (try file.status(), try file.readAll())
        #expect(FileAttributes(status) == attributes && bytes == Array("new".utf8))
        #expect(try folder.open("a").list() == ["conf"])
        #expect(try FileSystem.read("\(path)/victim/conf") == Array("precious".utf8))
    }

    /// Another name of the file keeps the old content: it is not written into.
    @Test func aFileIsReplacedWhole() throws {
        let attributes = FileAttributes(mode: 0o600)
        try folder.replace("a", with: [1], attributes)
        try folder.hardLink("b", to: "a")
        try folder.replace("a", with: [2, 3], attributes)
        let contents = try [folder.openFile("a").readAll(), folder.openFile("b").readAll()]
        #expect(contents == [[2, 3], [1]])
        #expect(thrown { _ = try folder.create("a", mode: 0o600) } == EEXIST)
        try folder.link("link", to: "a")
        #expect(thrown { try folder.hardLink("c", to: "link") } == EINVAL)
    }

    /// The attributes of folders that are already there and have them stay as they are.
    @Test func onlyTheLastFolderGetsTheAttributes() throws {
        try folder.makeDirectory("a", FileAttributes(user: other, group: other, mode: 0o700))
        try folder.makeDirectory("a/b/c", FileAttributes(mode: 0o500))
        let found = try ["a", "a/b", "a/b/c"].map { try folder.status($0).map { FileAttributes($0) } }
        #expect(
            found == [
                FileAttributes(user: other, group: other, mode: 0o700), FileAttributes(mode: 0o755),
                FileAttributes(mode: 0o500),
            ])
    }

    @Test func onlyRegularFilesAreRead() throws {
        mkfifo("\(path)/own/pipe", 0o600)
        try folder.makeDirectory("folder")
        #expect(thrown { _ = try folder.openFile("pipe") } == EINVAL)
        #expect(thrown { _ = try folder.openFile("folder") } == EISDIR)
        #expect(thrown { _ = try folder.openFile("missing") } == ENOENT)
    }

    /// Each further folder would need a descriptor and a stack frame, and its path is longer than PATH_MAX.
    @Test func aVeryDeepTreeIsRemoved() throws {
        var deepest = try folder.makeDirectory("tree")
        for level in 0..<3000 {
            deepest = try deepest.makeDirectory("d")
            if level % 100 == 0 { _ = try deepest.create("file", mode: 0o600) }
        }
        try folder.makeDirectory("other/tree")
        try folder.rename("tree", to: "other/tree/deep")
        #expect(thrown { try folder.copy("other", to: folder, as: "copy") } == ENAMETOOLONG)
        #expect(thrown { _ = try folder.size(of: "other") } == ENAMETOOLONG)
        try folder.remove("copy")
        try folder.open("other/tree").empty()
        #expect(try folder.open("other/tree").list() == [])
        try folder.remove("other")
        #expect(try folder.list() == [])
    }

    /// A service may choose names that are not UTF-8.
    @Test func anyBytesAreAName() throws {
        try folder.makeDirectory("tree")
        let name: [CChar] =
            Array("\(path)/own/tree/".utf8CString.dropLast()) + [0xFF, 0xFE, 0].map { CChar(truncatingIfNeeded: $0) }
        #expect(mkdir(name, 0o700) == 0)
        let inner: [CChar] = Array(name.dropLast()) + Array("/\u{1}file".utf8CString)
        close(creat(inner, 0o600))
        try folder.copy("tree", to: folder, as: "copy")
        let lists = try [folder.open("tree").list(), folder.open("copy").list()]
        #expect(lists[0] == lists[1] && lists[0].count == 1)
        try folder.open("copy").empty()
        try folder.remove("tree")
        #expect(try folder.list() == ["copy"] && folder.open("copy").list() == [])
    }

    @Test func aCopyIsTheSame() throws {
        try folder.makeDirectory("a/b", FileAttributes(user: other, group: other, mode: 0o2750))
        try folder.replace(
            "a/b/file", with: [UInt8](repeating: 7, count: 100_000), .init(user: other, group: other, mode: 0o640))
        try folder.link("a/link", to: "../../victim")
        mkfifo("\(path)/own/a/pipe", 0o600)
        let times = [timespec(tv_sec: 1000, tv_nsec: 5), timespec(tv_sec: 2000, tv_nsec: 6)]
        for name in ["a/b/file", "a/b"] {
            #expect(utimensat(AT_FDCWD, "\(path)/own/\(name)", times, 0) == 0)
        }
        try folder.makeDirectory("copies")
        try folder.copy("a", to: folder, as: "copies/a")
        #expect(try folder.open("copies/a").list() == ["b", "link"])
        for name in ["b", "b/file", "link"] {
            let (before, after) = (try folder.status("a/\(name)"), try folder.status("copies/a/\(name)"))
            #expect(before.map { FileAttributes($0) } == after.map { FileAttributes($0) }, "\(name)")
            guard name != "link" else { continue }
            #expect(after?.st_mtim.tv_sec == 2000 && after?.st_mtim.tv_nsec == 6, "\(name)")
        }
        let (target, bytes) = (
            try folder.linkTarget("copies/a/link"), try folder.openFile("copies/a/b/file").readAll()
        )
        #expect(target == "../../victim" && bytes == [UInt8](repeating: 7, count: 100_000))
        #expect(try folder.size(of: "copies/a") >= 100_000)
        #expect(thrown { try folder.copy("a", to: folder, as: "copies/a") } == EEXIST)
        #expect(thrown { try folder.copy("missing", to: folder, as: "b") } == ENOENT)
    }

    @Test func leftoversAreRemovedAndNothingElse() throws {
        try folder.makeDirectory("\(FileSystem.temporaryPrefix)tree/inner")
        try folder.link("\(FileSystem.temporaryPrefix)link", to: "../victim")
        try folder.makeDirectory("new")
        try folder.removeLeftovers()
        #expect(try folder.list() == ["new"] && FileSystem.exists("\(path)/victim/conf"))
    }

    @Test func aFolderThatIsNotEmptyStays() throws {
        try folder.makeDirectory("a/b")
        try folder.removeEmptyDirectory("a")
        try folder.removeEmptyDirectory("missing/b")
        _ = try folder.create("file", mode: 0o600)
        try folder.removeEmptyDirectory("file")
        try folder.removeEmptyDirectory("a/b")
        #expect(try folder.list() == ["a", "file"] && folder.open("a").list() == [])
    }
}
