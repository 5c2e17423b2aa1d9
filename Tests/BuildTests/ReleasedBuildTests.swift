import Digests
import Documents
import Files
import Glibc
import ImageBuilder
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
                program, arguments("\(folder)/\(output)", ["--relock-gone"], images: images),
                environment: home
            ).check()
        }
        // As `vcpe test` leaves it: digests of all parts, kind and time.
        func prove(_ output: String, _ change: (inout ProofRecord) -> Void = { _ in }) throws {
            let image = try BuiltImage("lab-minimal", output: "\(folder)/\(output)")
            let now = time(nil)
            var record = ProofRecord(
                image: "lab-minimal", version: "", profile: image.profile, started: now, ended: now,
                machine: .init(
                    firmware: "uefi", loaderEntry: "vcpe-1.efi", secureBoot: false, accelerator: "tcg", disk: "virtio",
                    network: "virtio-net-pci"), digests: try image.digests())
            record.controls = [.init("boots", .passed, seen: "")]
            record.proofs = [.init("none", .passed, seen: "")]
            let kind = ProbePacket(form: .udp, family: .ipv4)
            record.traffic = [.init(kind: kind, from: .wan, sent: 1, arrived: 0, leaked: 0)]
            change(&record)
            try FileSystem.replace("\(image.folder)/\(image.stem).proofs.json", with: record.json.pretty)
        }
        func refused(_ output: String, _ rejection: ProofRejection.Reason) throws -> Bool {
            let result = try add(output)
            return result.status == 1 && result.errorText.contains("\(ProofRejection(rejection))")
                && result.errorText.contains("try: vcpe test lab-minimal")
        }
        func add(_ output: String, channel: String = "stable") throws -> Command.Result {
            try run(
                "release", "add", "lab-minimal", "--output", "\(folder)/\(output)", "--to", updates, "--channel",
                channel, "--yes", "--compression", "3")
        }
        #expect(try run("release", "init", updates, "--lab").status == 0)
        try build("1.0.0", into: "first")
        #expect(try refused("first", .missing))
        // ProofRecordTests has each reason; these are of each kind.
        try prove("first") { $0.digests["raw"] = String(repeating: "0", count: 64) }
        #expect(try refused("first", .otherBuild("raw")))
        try prove("first") { $0.machine.firmware = "direct" }
        #expect(try refused("first", .firmware("direct")))
        // Longer ago than the image was built.
        try prove("first") { $0.started -= 3600 }
        #expect(try add("first").errorText.contains("before the build ended at"))
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
        // The manifest is newer now than the proofs.
        try prove("second")
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
        let methods = try JSON.parse(cost.text).list ?? []
        #expect(methods.map { $0["method"]?.text } == ["patch", "blocks", "full"], "\(cost.errorText)")
        // That one is packed as hard as zstd can.
        #expect((1...patch).contains(methods.first?["bytes"]?.integer ?? 0), "\(methods) \(patch)")
    }
}
