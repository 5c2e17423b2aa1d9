import Digests
import Documents
import Files
import Glibc
import Processes
@testable import Releases
import Slots
import TestSupport
import Testing
@testable import Updates

/// The box's own updater with invalid input, its disk in files and its repository in a folder: its
/// error, and that the running release is unchanged.
///
/// Nothing of it changes: Swift 6.0 moves a suite with an asynchronous initializer between actors.
@Suite(.serialized) final class UpdaterTests: @unchecked Sendable {
    private static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    let folder: String
    let releases: [SimulatedRelease]
    let key: SigningKey
    let now = time(nil)

    init() async throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-updater")
        releases = try await SimulatedRelease.make([.good, .good], in: folder)
        key = try SigningKey.make()
        for name in ["box", "data"] { try FileSystem.makeDirectory("\(folder)/\(name)") }
        for name in ["manifest", "empty"] { try FileSystem.replace("\(folder)/\(name)", with: "") }
        let whole = try SimulatedBox(releases, in: folder)
        for (name, part) in [("esp", whole.esp), ("root-a", whole.slot(0)), ("root-b", whole.slot(1))] {
            try FileSystem.replace("\(folder)/\(name)", with: part.read(part.size, at: 0))
        }
    }

    deinit { try? FileSystem.remove(folder) }

    // MARK: - The box

    func box(_ name: String) -> String { "\(folder)/box/\(name)" }

    /// The first release runs, and nothing else was ever installed.
    func reset() throws {
        for name in ["esp", "root-a", "root-b"] {
            try Command("cp", ["--sparse=always", "\(folder)/\(name)", box(name)]).check()
        }
        try FileSystem.remove("\(folder)/data")
        try FileSystem.makeDirectory("\(folder)/data")
        try FileSystem.replace(box("settings.json"), with: "{\"repository\":\"file:///box/updates\"}")
        try FileSystem.replace(
            box("boot"),
            with: "slot root-a\nroot-a /box/root-a\nroot-b /box/root-b\nesp /box/esp\nentry vcpe-1.efi\n")
        let layout = releases[0].layout
        try FileSystem.replace(
            "\(folder)/cmdline", with: "vcpe.verity=\(layout.dataBlocks),\(Hex.text(layout.salt)),none\n")
        try FileSystem.remove(box("updates"))
        try FileSystem.remove(box("root.json"))
    }

    /// Calls the updater on the box.
    ///
    /// - Parameter before: a script that runs on the box first.
    /// - Returns: the error; nil for success.
    func ask(_ words: String..., before: String = "") throws -> String? {
        let result = try run(["answer", "0", "0"] + words, before: before)
        guard !result.output.isEmpty else { throw Broken(description: result.errorText) }
        return try JSON.parse(result.output)["error"]?.text
    }

    func run(_ words: [String], before: String = "") throws -> Command.Result {
        let script = """
            set -e
            cd "$0"
            updater=$1
            shift
            mkdir -p root
            mount -t tmpfs tmpfs root
            cd root
            mkdir -p usr .upper .work proc run/vcpe/upgrade tmp dev etc box data
            mount -t overlay none -o lowerdir=/usr,upperdir=.upper,workdir=.work usr
            for name in bin sbin lib lib64; do ln -s usr/$name $name; done
            mount --rbind /dev dev
            mount --rbind /proc proc
            mount --bind ../cmdline proc/cmdline
            mount --bind ../box box
            mount --bind ../data data
            mkdir -p usr/lib/vcpe/trust
            cp "$updater" usr/lib/vcpe/vcpe-updater
            printf 'name box\\nversion 1.0.0\\nprofile virtio\\n' >usr/lib/vcpe/image
            cp box/boot run/vcpe/boot
            [ ! -f box/settings.json ] || cp box/settings.json run/vcpe/upgrade/
            [ ! -f box/root.json ] || cp box/root.json usr/lib/vcpe/trust/
            \(before)
            exec chroot . /usr/lib/vcpe/vcpe-updater "$@"
            """
        return try Command(
            "unshare",
            ["--mount", "--net", "sh", "-c", script, folder, "\(Self.repository)/.build/box/vcpe-updater"] + words
        ).run()
    }

    private struct Broken: Error { var description: String }

    // MARK: - The repository

    /// Publishes the second release.
    ///
    /// - Parameters:
    ///   - place: its path in the channel.
    ///   - custom: replaces fields of its custom data.
    ///   - key: of all roles; nil for the suite's own.
    ///   - time: by the publisher's clock; nil for a short while ago.
    ///   - isEmpty: makes the repository without the release.
    func publish(
        place: String = "box/virtio/1.0.1", custom: [String: JSON] = [:],
        by key: SigningKey? = nil, at time: Int? = nil, isEmpty: Bool = false
    ) throws {
        let key = key ?? self.key
        let (made, path, release) = (time ?? now - 100, box("updates"), releases[1])
        let signer = ReleaseRepository.Keys([key.publicKey], threshold: 1)
        let session = SigningSession.unattended(KeyFolder([key]))
        _ = try ReleaseRepository.make(
            path, roles: Dictionary(uniqueKeysWithValues: TrustedMetadata.topLevel.map { ($0, signer) }),
            channel: "stable", channelKeys: signer, signing: session, now: made)
        try FileSystem.replace(box("root.json"), with: try FileSystem.read("\(path)/metadata/1.root.json"))
        if isEmpty { return }
        var repository = try ReleaseRepository(path, now: made + 1)
        let source = "\(folder)/\(release.version)"
        var files = ["manifest": "\(folder)/manifest", "uki.efi": "\(source)/uki"]
        for file in release.files.keys { files[file] = "\(source)/\(file)" }
        let signed = (release.custom.object ?? [:]).merging(custom) { $1 }
        let outcome = try repository.add(
            Dictionary(uniqueKeysWithValues: files.map { ("\(place)/\($0.key)", $0.value) }), to: "stable",
            custom: .object(signed), signing: session)
        #expect(outcome == .published)
    }

    /// Changes the files of a release whose names have this suffix.
    private func change(_ suffix: String, _ body: (inout [UInt8]) -> Void) throws {
        let place = "\(box("updates"))/targets/stable/box/virtio/1.0.1"
        let names = try FileSystem.list(place).filter { $0.hasSuffix(suffix) }
        #expect(!names.isEmpty)
        for name in names {
            var bytes = try FileSystem.read("\(place)/\(name)")
            body(&bytes)
            try FileSystem.replace("\(place)/\(name)", with: bytes)
        }
    }

    // MARK: - Tests

    /// The running root and what boots it; clusters without a name do not count.
    private func kept() throws -> [[UInt8]] {
        let root = try FileSystem.read(box("root-a"))
        guard let partition = try? BootPartition(try File(box("esp"))), let entry = partition.entry(1) else {
            return [root, try FileSystem.read(box("esp"))]
        }
        let names = partition.entries.map { Array($0.fileName.utf8) }
        return [root, try partition.image(of: entry).read(1 << 20, at: 0)] + names
    }

    /// The updater refuses, and the running release and what boots it are unchanged.
    func refuses(_ said: String..., before: String = "", _ spoil: () throws -> Void) throws {
        try reset()
        try spoil()
        let before = (script: before, kept: try kept())
        let error = try ask("install", before: before.script)
        for part in said { #expect(error?.contains(part) == true, "\(error ?? "it is installed")") }
        #expect(try kept() == before.kept)
        #expect(!FileSystem.exists("\(folder)/data/vcpe/upgrade/installed"))
    }

    /// All is in order: the installation reaches the root's dm-verity device, which files in place
    /// of partitions do not have.
    func comesToItsRoot(before: String = "", _ spoil: () throws -> Void = {}) throws {
        try reset()
        try publish()
        try spoil()
        let error = try ask("install", before: before)
        #expect(error?.contains("device-mapper") == true, "\(error ?? "it is installed")")
        #expect(try FileSystem.read(box("root-b")).starts(with: releases[1].root))
        #expect(try BootPartition(try File(box("esp"))).entries.map(\.fileName) == ["vcpe-1.efi"])
    }

    @Test func aReleaseForAnotherBoxIsRefused() throws {
        try comesToItsRoot()
        try refuses("1.0.1 is for arm64, this box is amd64") { try publish(custom: ["architecture": "arm64"]) }
        try refuses("the channel stable has no release of box for virtio") {
            try publish(place: "box/baremetal/1.0.1")
        }
        #expect(
            try ask("install", "--to", "1.0.1")?.contains(
                "the channel stable has no release 1.0.1 of box for virtio") == true)
        try refuses("its root has 1048576 bytes and the slot has 262144") {
            try publish(custom: ["root-bytes": 1_048_576])
        }
        try refuses("stable/box/virtio/1.0.1/uki.efi") {
            try publish(custom: ["root-hash": .text(String(repeating: "ab", count: 32))])
        }
    }

    @Test func aMissingOrForeignRepositoryIsRefused() throws {
        try refuses("the site names no repository of releases", "repository: https") {
            try FileSystem.remove(box("settings.json"))
        }
        try refuses("the image has no /usr/lib/vcpe/trust/root.json, by which releases are trusted", "files: {") {
            try publish()
            try FileSystem.remove(box("root.json"))
        }
        try refuses("root: not JSON") {
            try publish()
            try FileSystem.replace(box("root.json"), with: Array(try FileSystem.read(box("root.json")).dropLast(40)))
        }
        try refuses("the repository has no such channel") {
            try publish()
            try FileSystem.replace(
                box("settings.json"), with: "{\"repository\":\"file:///box/updates\",\"channel\":\"edge\"}")
        }
        // The stored metadata is another provider's.
        let strangers = try SigningKey.make()
        try refuses("timestamp: 0 valid signatures", "1 are needed") {
            try publish()
            try FileSystem.rename(box("updates"), to: "\(folder)/own")
            try publish(by: strangers)
            try FileSystem.replace(box("root.json"), with: try FileSystem.read("\(folder)/own/metadata/1.root.json"))
            try FileSystem.remove("\(folder)/own")
        }
    }

    @Test func filesWithoutTheSignedHashAreRefused() throws {
        let spoils: [(said: String, spoil: (inout [UInt8]) -> Void)] = [
            ("root.blocks: it ends before byte", { $0 = Array($0[..<($0.count / 2)]) }),
            ("root.blocks: 0 bytes instead of 64", { $0 = [] }),
            ("root.blocks: it does not hold 26 blocks", { $0 = [UInt8](repeating: 7, count: $0.count) }),
            ("root.blocks: it does not hold 26 blocks", { $0 = Array($0.reversed()) }),
        ]
        for (said, spoil) in spoils {
            try refuses(said) {
                try publish()
                for name in [".root.blocks", ".root.zst", ".patch"] { try change(name, spoil) }
            }
        }
        // Each role's metadata, cut short, and longer than allowed.
        for (name, said) in [
            ("timestamp", "timestamp: not JSON"), ("2.snapshot", "signed are"),
            ("1.targets", "signed are"), ("2.stable", "signed are"),
        ] {
            func change(_ body: (inout [UInt8]) -> Void) throws {
                try publish()
                let path = "\(box("updates"))/metadata/\(name).json"
                var bytes = try FileSystem.read(path)
                body(&bytes)
                try FileSystem.replace(path, with: bytes)
            }
            try refuses(said) { try change { $0 = Array($0[..<($0.count / 2)]) } }
            try refuses("\(name).json: longer than the", "bytes that are allowed") {
                try change { $0 += [UInt8](repeating: 32, count: 12 << 20) }
            }
        }
        // A mirror has what the repository has only half of, has other bytes of, or has expired.
        let failures: [() throws -> Void] = [
            {
                for name in [".root.blocks", ".root.zst", ".patch"] {
                    try self.change(name) { $0 = Array($0[..<($0.count / 2)]) }
                }
            },
            {
                for name in [".root.blocks", ".root.zst", ".patch"] {
                    try self.change(name) { $0 = [UInt8](repeating: 7, count: $0.count) }
                }
            },
            { try FileSystem.replace("\(self.box("updates"))/metadata/2.snapshot.json", with: "{}") },
            {
                try FileSystem.remove(self.box("updates"))
                try self.publish(at: self.now - 20 * 86_400, isEmpty: true)
            },
        ]
        func withMirrors(_ spoil: () throws -> Void) throws {
            try comesToItsRoot {
                try FileSystem.remove(box("mirror"))
                try Command("cp", ["-r", box("updates"), box("mirror")]).check()
                try FileSystem.replace(
                    box("settings.json"),
                    with: "{\"repository\":\"file:///box/updates\","
                        + "\"mirrors\":[\"file:///box/stick\",\"http://127.0.0.1:9\",\"file:///box/mirror\"]}")
                try spoil()
            }
        }
        for spoil in failures { try withMirrors(spoil) }
        // One method fails everywhere, and the first address alone has the files of the others.
        try withMirrors {
            try change(".patch") { $0 = [UInt8](repeating: 7, count: $0.count) }
            try FileSystem.remove(box("mirror"))
        }
        // A signed file is missing.
        try refuses("the server no longer has it") {
            try publish()
            try FileSystem.remove("\(box("updates"))/targets")
        }
        // Bytes behind the end are not read.
        try comesToItsRoot { for name in [".root.blocks", ".patch"] { try change(name) { $0 += [1, 2, 3] } } }
        // One method is enough, whatever the others' files are.
        try comesToItsRoot { for name in [".root.zst", ".patch"] { try change(name) { $0 = [] } } }
    }

    /// A consistent patch that makes another root: nothing of it is written.
    @Test func forgedDataIsRefusedBeforeItIsWritten() throws {
        try refuses("root.blocks") {
            try publish()
            let (old, forged) = (try File("\(folder)/1.0.0/root"), "\(folder)/forged")
            try FileSystem.replace(forged, with: [UInt8](repeating: 7, count: releases[1].root.count))
            try change(".root.blocks") { $0 = [] }
            for (name, base) in [("root.zst", nil), ("root.from-1.0.0.patch", old)] {
                let made = "\(folder)/\(name)"
                try PatchDelta.make(from: base, to: try File(forged), path: made, level: 1)
                try change(".\(name)") { $0 = (try? FileSystem.read(made)) ?? [] }
            }
        }
        #expect(try FileSystem.read(box("root-b")) == FileSystem.read("\(folder)/root-b"))
    }

    /// Serves the repository at http://127.0.0.1:8123 while the updater runs.
    static let serve = """
        ip link set lo up
        setpriv --pdeathsig KILL busybox httpd -f -p 127.0.0.1:8123 -h box/updates &
        for i in $(seq 100); do curl -s -o /dev/null http://127.0.0.1:8123/ && break; sleep 0.1; done

        """

    /// A server without a newer root, and an unreachable mirror.
    @Test func aMirrorThatIsDownStopsNothing() throws {
        for (first, mirror) in [(8123, 9), (9, 8123)] {
            try comesToItsRoot(before: Self.serve) {
                try FileSystem.replace(
                    box("settings.json"),
                    with: "{\"repository\":\"http://127.0.0.1:\(first)\",\"mirrors\":[\"http://127.0.0.1:\(mirror)\"]}"
                )
            }
        }
    }

    /// The stored root is lost or damaged: the image's own is used.
    @Test func aDamagedRootIsReplacedByTheImages() throws {
        for kept in ["", "{", "{\"signed\":{},\"signatures\":[]}"] {
            try comesToItsRoot {
                try FileSystem.makeDirectory("\(folder)/data/vcpe/upgrade/tuf")
                try FileSystem.replace("\(folder)/data/vcpe/upgrade/tuf/root.json", with: kept)
            }
        }
    }

    /// The factory reset entry boots a release like its own entry does.
    @Test(arguments: ["factory-reset.conf", "vcpe-1.efi@factory-reset"])
    func aBoxThatWasResetIsUpgraded(_ entry: String) throws {
        try comesToItsRoot {
            try FileSystem.replace("\(folder)/reset", with: "title reset\nefi /EFI/Linux/vcpe-1.efi\n")
            for path in ["loader", "loader/entries"] {
                _ = try Command("mmd", ["-i", box("esp"), "::\(path)"]).run()
            }
            let place = "::loader/entries/factory-reset.conf"
            try Command("mcopy", ["-o", "-i", box("esp"), "\(folder)/reset", place]).check()
            let words = String(decoding: try FileSystem.read(box("boot")), as: UTF8.self)
            try FileSystem.replace(box("boot"), with: words.replacing("vcpe-1.efi", with: entry))
        }
    }

    @Test func partitionsWithoutSpaceAreUnchanged() throws {
        try refuses("/box/esp: \(releases[1].uki.count) bytes are wanted and", "are free") {
            try publish()
            let filler = "\(folder)/filler"
            try File(filler, O_RDWR | O_CREAT).resize(to: SimulatedBox.espBytes - (2 << 20))
            try Command("mcopy", ["-i", box("esp"), filler, "::filler"]).check()
            // Less is free than a kernel image needs.
            var count = 0
            while try Command("mcopy", ["-i", box("esp"), "\(folder)/1.0.1/uki", "::\(count)"]).run().status == 0 {
                count += 1
            }
        }
        try refuses("holds no FAT file system") {
            try publish()
            try FileSystem.replace(box("esp"), with: [UInt8](repeating: 0, count: SimulatedBox.espBytes))
        }
        try refuses("has no entry 7") {
            try publish()
            let words = String(decoding: try FileSystem.read(box("boot")), as: UTF8.self)
            try FileSystem.replace(box("boot"), with: words.replacing("vcpe-1.efi", with: "vcpe-7.efi"))
        }
        for name in ["esp", "root-b"] {
            try refuses("Read-only file system", before: Self.readOnly(name)) { try publish() }
        }
        try refuses("Read-only file system", before: "mount -t tmpfs -o ro tmpfs data") { try publish() }
    }

    /// Mounts a file of the box over itself, read-only.
    private static func readOnly(_ name: String) -> String {
        "mount --bind box/\(name) box/\(name); mount -o remount,bind,ro box/\(name)"
    }

    /// A box's clock counts as no earlier than when it last trusted metadata.
    @Test func expiredMetadataIsRefusedAlsoWithASlowClock() throws {
        let day = 86_400
        try refuses("timestamp", "expired") { try publish(at: now - 20 * day) }
        try refuses("timestamp", "expired") {
            try publish()
            try FileSystem.makeDirectory("\(folder)/data/vcpe/upgrade")
            try FileSystem.replace("\(folder)/data/vcpe/upgrade/time", with: "\(now + 20 * day)")
        }
    }
}
