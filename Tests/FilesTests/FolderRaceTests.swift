import Files
import Glibc
import Testing

/// Root works in a folder whose owner exchanges a folder for a link to a victim's all the time.
@Suite(.serialized) final class FolderRaceTests {
    /// In memory, where syncing costs nothing.
    private let folder: String
    private let work: Folder
    /// Another user than this process, if it may give files away.
    private let other: uid_t = geteuid() == 0 ? 7 : geteuid()

    private static let rounds = 4000

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/dev/shm", prefix: "vcpe-folder")
        try FileSystem.makeDirectory("\(folder)/work")
        work = try Folder("\(folder)/work")
        try FileSystem.makeDirectory("\(folder)/victim/inner/deep")
        for name in ["file", "inner/file", "inner/deep/file"] {
            try FileSystem.replace("\(folder)/victim/\(name)", with: "precious", mode: 0o600)
        }
    }

    deinit { try? FileSystem.remove(folder) }

    /// Every name below the victim's folder, with attributes and content.
    private func victim() throws -> [String] {
        func entries(_ path: String) throws -> [String] {
            let status = try File(path).status()
            let own = "\(path) \(FileAttributes(status)) \(status.st_ino)"
            guard FileSystem.isDirectory(path) else {
                return [own + String(decoding: try FileSystem.read(path), as: UTF8.self)]
            }
            return try [own] + FileSystem.list(path).flatMap { try entries("\(path)/\($0)") }
        }
        return try entries("\(folder)/victim")
    }

    private func isLink(_ name: String) throws -> Bool {
        try work.status(name).map { $0.st_mode & S_IFMT == S_IFLNK } ?? false
    }

    /// Runs rounds of root's work while `tree` and `other` exchange their names: one is a folder like the
    /// victim's, the other a link to the victim's.
    private func race(_ body: (Int) throws -> Void) throws {
        let before = try victim()
        let swapper = try Swapper(work.path, "tree", "other")
        defer { swapper.stop() }
        for round in 0..<Self.rounds {
            try work.makeDirectory("made/inner/deep")
            for name in ["file", "inner/file", "inner/deep/file"] where try work.status("made/\(name)") == nil {
                _ = try work.create("made/\(name)", mode: 0o600)
            }
            // An exchange between the two questions costs a round, and no more.
            let links = try [isLink("tree"), isLink("other")]
            if links == [false, false] {
                try work.remove("other")
                try work.link("other", to: "../victim")
            }
            if links == [true, true] { try work.remove("tree") }
            if try work.status("tree") == nil { try work.rename("made", to: "tree") }
            try body(round)
            if round % 100 == 0 {
                let now = try victim()
                try #require(now == before, "round \(round)")
            }
        }
        #expect(swapper.exchanges > Self.rounds / 4, "nothing was exchanged meanwhile")
        #expect(try victim() == before)
    }

    @Test func removingATreeNeverLeavesIt() throws { try race { _ in try work.remove("tree") } }

    @Test func emptyingAFolderNeverLeavesIt() throws {
        try race { _ in
            // The link has the name at the moment, or no name has a folder.
            guard let tree = try? work.open("tree") else { return }
            try tree.empty()
            try work.remove("tree")
        }
    }

    /// What the rest of the program calls.
    @Test func removingByAPathNeverLeavesTheTree() throws {
        try race { _ in try FileSystem.remove("\(folder)/work/tree") }
    }

    @Test func foldersAreMadeInTheFolderAlone() throws {
        let attributes = FileAttributes(user: other, group: other, mode: 0o711)
        try race { round in
            try work.makeDirectory("tree/inner", attributes, replacing: true)
            try work.makeDirectory("tree/inner/deep/new\(round)", attributes, replacing: true)
        }
    }

    @Test func filesAreWrittenInTheFolderAlone() throws {
        let attributes = FileAttributes(user: other, group: other, mode: 0o644)
        try race { round in
            try work.makeDirectory("tree", replacing: true).replace("new\(round)", with: [1], attributes)
            try work.makeDirectory("tree/inner", replacing: true).replace("file", with: [1], attributes)
        }
    }

    @Test func nothingIsReadElsewhere() throws {
        var read = 0
        try race { _ in
            guard let file = try? work.openFile("tree/inner/file") else { return }
            read += 1
            let bytes = try file.readAll()
            #expect(bytes == [])
        }
        #expect(read > 0)
    }

    @Test func nothingIsCopiedFromElsewhere() throws {
        var copies = 0
        try race { _ in
            try work.remove("copy")
            try? work.copy("tree", to: work, as: "copy")
            guard let copy = try? work.openFile("copy/inner/file") else { return }
            copies += 1
            let bytes = try copy.readAll()
            #expect(bytes == [])
        }
        #expect(copies > 0)
    }
}
