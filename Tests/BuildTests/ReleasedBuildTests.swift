import Documents
import Digests
import Files
import Glibc
import Processes
import Testing

extension BuildTests {
    /// A build becomes a release only with proofs of its own, and boxes with the one before fetch little.
    @Test func aProvedBuildIsReleasedAndItsSuccessorCostsLittle() throws {
        let images = try copyImages()
        let updates = "\(folder)/updates"
        let environment = home.merging(["VCPE_PASSPHRASE": "of a test"]) { $1 }
        func run(_ words: String...) throws -> Command.Result {
            try Command(program, words, environment: environment).run()
        }
        func build(_ version: String, into output: String) throws {
            let yaml = "\(images)/lab-minimal.yaml"
            let text = String(decoding: try FileSystem.read(yaml), as: UTF8.self)
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map {
                $0.hasPrefix("version:") ? "version: \"\(version)\"" : $0
            }
            try FileSystem.replace(yaml, with: lines.joined(separator: "\n"))
            try Command(
                program, arguments("\(folder)/\(output)", ["--raw-only", "--relock-gone"], images: images),
                environment: home
            ).check()
        }
        func prove(_ output: String, manifest: String? = nil, uki: String? = nil, passed: Bool = true) throws {
            let place = "\(folder)/\(output)/lab-minimal/lab-minimal"
            let digest = try manifest ?? SHA256.hash(FileSystem.read("\(place).manifest")).hex
            let started = try uki ?? SHA256.hash(FileSystem.read("\(place).efi")).hex
            let proofs: JSON = ["manifest": .text(digest), "uki": .text(started), "passed": .boolean(passed)]
            try FileSystem.replace("\(place).proofs.json", with: proofs.pretty)
        }
        func add(_ output: String, channel: String = "stable") throws -> Command.Result {
            try run(
                "release", "add", "lab-minimal", "--output", "\(folder)/\(output)", "--to", updates, "--channel",
                channel,
                "--compression", "3")
        }
        #expect(try run("release", "init", updates, "--lab").status == 0)
        try build("1.0.0", into: "first")
        #expect(try add("first").errorText.contains("lab-minimal has no proofs"))
        try prove("first", manifest: String(repeating: "0", count: 64))
        #expect(try add("first").errorText.contains("are of another build"))
        try prove("first", uki: String(repeating: "0", count: 64))
        #expect(try add("first").errorText.contains("are of another build"))
        try prove("first", passed: false)
        #expect(try add("first").errorText.contains("did not pass"))
        try prove("first")
        #expect(try add("first", channel: "stabel").errorText.contains("did you mean stable?"))
        let first = try add("first")
        #expect(first.status == 0 && first.text.contains("/1.0.0 is published"), "\(first.errorText)")
        #expect(try add("first").errorText.contains("was released before"))
        // Outputs of two builds together are none.
        try build("1.0.1", into: "second")
        try prove("second")
        let manifest = "\(folder)/second/lab-minimal/lab-minimal.manifest"
        let kept = try FileSystem.read(manifest)
        try FileSystem.replace(manifest, with: try FileSystem.read("\(folder)/first/lab-minimal/lab-minimal.manifest"))
        #expect(try add("second").errorText.contains("\(folder)/second/lab-minimal/lab-minimal.root"))
        try FileSystem.replace(manifest, with: kept)
        // One byte of the root has changed since it was proved.
        let root = try File("\(folder)/second/lab-minimal/lab-minimal.root", O_RDWR)
        let byte = try root.read(1, at: 1_000_000)
        try root.write([byte[0] ^ 1], at: 1_000_000)
        #expect(try add("second").errorText.contains("\(folder)/second/lab-minimal/lab-minimal.root"))
        try root.write(byte, at: 1_000_000)
        let second = try add("second")
        #expect(second.status == 0, "\(second.errorText)")
        // What boxes fetch for it, as they fetch it: from the one before, and from any.
        let client = "\(Self.repository)/.build/debug/vcpe-tuf"
        try FileSystem.makeDirectory("\(folder)/box")
        try Command(client, ["--metadata-dir", "\(folder)/trusted", "init", "\(updates)/metadata/1.root.json"]).check()
        func fetch(_ name: String) throws -> Int {
            let targets = try FileSystem.list("\(updates)/targets/stable/lab-minimal")
            let profile = try #require(targets.first)
            let path = try Command(
                client,
                [
                    "--metadata-dir", "\(folder)/trusted", "--metadata-url", "file://\(updates)/metadata",
                    "--target-name",
                    "stable/lab-minimal/\(profile)/1.0.1/\(name)", "--target-base-url", "file://\(updates)/targets",
                    "--target-dir", "\(folder)/box", "download",
                ]
            ).check().text
            return Int(try File(String(path.dropLast())).status().st_size)
        }
        let full = try fetch("root.zst") + fetch("uki.efi")
        let patch = try fetch("root.from-1.0.0.patch") + fetch("uki.from-1.0.0.patch")
        #expect(patch < full / 20, "\(patch) of \(full)")
        #expect(try fetch("root.blocks") > 0 && fetch("uki.blocks") > 0)
        let cost = try run(
            "release", "cost", "lab-minimal", "--from", "\(folder)/first", "--output", "\(folder)/second", "--json")
        let ways = try JSON.parse(cost.text).list ?? []
        #expect(ways.map { $0["way"]?.text } == ["patch", "blocks", "full"], "\(cost.errorText)")
        // That one is packed as hard as zstd can.
        #expect((1...patch).contains(ways.first?["bytes"]?.integer ?? 0), "\(ways) \(patch)")
    }
}
