import Files
import Glibc
import Processes
import TestSupport
import Testing

/// Adds a made-up kind of resource and a type of links to a copy of the tree, and builds it.
@Suite struct ExtensionTorture {
    private static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    private static let value = """
        /// A note: nothing but a text.
        public struct NoteResource: ResourceType {
            public static let kind = "note"
            public var name: String
            public init(_ line: ResourceLine) throws(InvalidResource) { name = try line.required("id") }
            public var identity: String { name }
            public var fields: [String: JSON] { [:] }
        }

        """

    private static let driver = """
        import Planning
        import PluginKit

        extension NoteResource: DrivenResource { typealias ItsDriver = NoteDriver }

        struct NoteDriver: Driver {
            static let watch = DriftWatch.none
            init(_ context: DriverContext) {}
            func steps(_ change: KindChange<NoteResource>) -> [Step] {
                [Step(.services) { for note in change.added { Log.say("note: \\(note.name)") } }]
            }
        }

        """

    private static let linkType = """
        /// A link with an address of its own on another link (ip-link(8), macvlan).
        public struct MACVLANLink: LinkType {
            public static let name = "macvlan"
            public static let kernelKind: String? = "macvlan"
            public var parent: String
            public init(_ line: ResourceLine) throws(InvalidResource) { parent = try line.required("parent") }
            public var fields: [String: JSON] { ["parent": .text(parent)] }
            public var parents: [String] { [parent] }
        }

        """

    @Test func aKindIsAFolderAndALinkTypeAFile() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/var/tmp", prefix: "vcpe-extension")
        defer { try? FileSystem.remove(folder) }
        try Command("cp", ["-r", "\(Self.repository)/Package.swift", "\(Self.repository)/Sources", folder]).check()
        let resources = "\(folder)/Sources/Resources"
        func write(_ path: String, _ text: String) throws {
            try FileSystem.makeDirectory(FileSystem.parent(of: "\(resources)/\(path)") ?? "/")
            try FileSystem.replace("\(resources)/\(path)", with: text)
        }
        try write("Note/Value/NoteResource.swift", Self.value)
        try write("Note/Driver/NoteDriver.swift", Self.driver)
        try write("Note/README.md", "# `note`\n")
        try write("Note/cases/good.jsonl", "{\"kind\": \"note\", \"id\": \"a\"}\n")
        try write("Link/Value/Types/MACVLANLink.swift", Self.linkType)
        func insert(_ name: String, after start: String, in path: String) throws {
            let text = String(decoding: try FileSystem.read("\(folder)/\(path)"), as: UTF8.self)
            let range = try #require(text.firstRange(of: start))
            try FileSystem.replace(
                "\(folder)/\(path)",
                with: String(text[..<range.upperBound]) + " \(name)," + String(text[range.upperBound...]))
        }
        try insert("\"Note\"", after: "let kinds = [", in: "Package.swift")
        try insert(
            "NoteResource.self", after: "[any ResourceType.Type] = [", in: "Sources/PluginKit/ResourceType.swift")
        try insert(
            "MACVLANLink.self", after: "[any LinkType.Type] = [", in: "Sources/Resources/Link/Value/LinkType.swift")
        let swift = getenv("SWIFT").map { String(cString: $0) } ?? "swift"
        let result = try Command(
            swift, ["build", "--package-path", folder, "--target", "Engine"],
            environment: ["VCPE_BOX": "1", "HOME": "/root", "PATH": String(cString: getenv("PATH"))]
        ).run()
        #expect(result.status == 0, "\(result.text.suffix(3000))")
        let changed = try Command("diff", ["-rq", "\(Self.repository)/Sources", "\(folder)/Sources"]).run().text
        let existing = changed.split(separator: "\n").filter { $0.hasPrefix("Files ") }
        #expect(existing.count == 2, "\(changed)")
        try Torture.note("a kind and a link type added to the tree", checked: 2, failed: result.status == 0 ? 0 : 2)
    }
}
