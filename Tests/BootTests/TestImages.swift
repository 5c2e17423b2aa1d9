import Files
import Glibc
import ImageBuilder
import Processes
import TestSupport
import Testing

/// Images built once for all boot tests, from the repository's own definitions and locks.
enum TestImages {
    static let repository = {
        let file = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        return "/" + file
    }()

    /// Kept between runs: an unchanged build takes no time.
    static let output = "\(repository)/out/tests"

    /// lab-minimal for both kinds of hardware.
    static func lab() async throws -> BuiltImage {
        try await build("lab-minimal", images: "\(repository)/images", profile: "virtio")
    }

    /// branch-office for a real server.
    static func server() async throws -> BuiltImage {
        try await build("branch-office", images: "\(repository)/images", profile: "x86-server")
    }

    /// branch-office with SSH and console logins.
    static func managed() async throws -> (image: BuiltImage, options: ImageBuild.Options) {
        let images = "\(repository)/images"
        return (
            try await build("branch-managed", images: images, profile: "virtio"),
            options(images: images, profile: "virtio")
        )
    }

    /// branch-office, which takes from outside what is signed, admits sticks alone, and closes its
    /// kernel.
    ///
    /// - Returns: the image, and the key that signs its documents.
    static func guarded() async throws -> (image: BuiltImage, key: String) {
        let (folder, key) = ("\(output)/guarded", "\(output)/site.key")
        try FileSystem.makeDirectory(folder)
        if !FileSystem.exists(key) {
            try Command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key]).check()
        }
        let images = "\(repository)/images"
        try Command(
            "cp",
            ["-r", "\(images)/profiles"]
                + ["lab-minimal.yaml", "branch-office.yaml", "branch-office.site.yaml"].map { "\(images)/\($0)" }
                + [folder]
        ).check()
        let text = String(decoding: try FileSystem.read("\(key).pub"), as: UTF8.self).split(separator: "\n")[0]
        try FileSystem.replace(
            "\(folder)/branch-guarded.yaml",
            with: """
                name: branch-guarded
                extends: branch-office
                site-keys: ["\(text)"]
                site-keys-required: true
                hotplug: false
                usb-classes: [storage]

                """)
        return (
            try await build(
                "branch-guarded", images: folder, profile: "x86-server", update: true, source: "branch-office"), key
        )
    }

    /// A key and a certificate that no firmware knows. They are kept: with new ones every signed
    /// image would be rebuilt.
    ///
    /// - Returns: the lines of a definition in `folder`, and the certificate's path.
    static func signing(in folder: String) throws -> (definition: String, certificate: String) {
        let (key, certificate) = ("\(output)/signing.key", "\(output)/signing.pem")
        try FileSystem.makeDirectory(folder)
        if !FileSystem.exists(key) || !FileSystem.exists(certificate) {
            try Command(
                "openssl",
                [
                    "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=vcpe boot tests",
                    "-keyout", key, "-out", certificate,
                ]
            ).check()
        }
        try Command("cp", [key, certificate, folder]).check()
        return ("secure-boot: {key: signing.key, certificate: signing.pem}\n", certificate)
    }

    /// lab-minimal, signed.
    static func signed() async throws -> (image: BuiltImage, certificate: String) {
        let folder = "\(output)/signed"
        let (signing, certificate) = try signing(in: folder)
        try Command("cp", ["-r", "\(repository)/images/profiles", "\(repository)/images/lab-minimal.yaml", folder])
            .check()
        _ = try await debug()
        for name in ["lock", "effects"] {
            try Command("cp", ["\(output)/debug/lab-debug.\(name)", "\(folder)/lab-signed.\(name)"]).check()
        }
        try FileSystem.replace(
            "\(folder)/lab-signed.yaml", with: "name: lab-signed\nextends: lab-minimal\ndebug: true\n\(signing)")
        return (try await build("lab-signed", images: folder, profile: "virtio"), certificate)
    }

    /// branch-office, signed.
    static func branchSigned() async throws -> ImageBuild.Options {
        let (signing, _) = try signing(in: "\(output)/branch-signed")
        return try await branch("branch-signed", signing, lock: "branch-office").options
    }

    /// Proofs that a box without any life fulfils.
    private static let droppedOnly = """
        proofs:
          - {name: WAN to LAN by TCP is dropped, from: wan, to: lan, tcp: 22, expect: dropped}

        """

    /// branch-office with a PID 1 that hangs: an ELF program that calls pause(2) for ever.
    static func hanging() async throws -> ImageBuild.Options {
        let box = "\(output)/box-hanging"
        try copyBox(to: box)
        try FileSystem.replace("\(box)/vcpe-init", with: pausingProgram, mode: 0o755)
        return try await branchThatOnlyDrops("branch-hanging", box: box)
    }

    /// branch-office whose engine exits at once: its program does not know its own name.
    static func withoutEngine() async throws -> ImageBuild.Options {
        let box = "\(output)/box-idle"
        try copyBox(to: box)
        var program = try FileSystem.read("\(repository)/.build/box/vcpe-box")
        // The compiler stores the name as a number of eight bytes, in the code that compares it
        // with argv[0].
        let (name, other) = (Array("vcpe-eng".utf8), Array("vcpe-gne".utf8))
        var count = 0
        for i in 0..<program.count - name.count where program[i] == name[0] && program[i + 7] == name[7] {
            guard program[i..<i + name.count].elementsEqual(name) else { continue }
            program.replaceSubrange(i..<i + name.count, with: other)
            count += 1
        }
        try #require(count > 0)
        try FileSystem.replace("\(box)/vcpe-box", with: program, mode: 0o755)
        return try await branchThatOnlyDrops("branch-idle", box: box)
    }

    /// branch-office with a single proof, which a dead box fulfils.
    private static func branchThatOnlyDrops(_ name: String, box: String) async throws -> ImageBuild.Options {
        let folder = "\(output)/\(name)"
        try FileSystem.makeDirectory(folder)
        try copyBranch(to: folder)
        // Lists of a parent only grow.
        let parent = "\(folder)/branch-office.yaml"
        let text = String(decoding: try FileSystem.read(parent), as: UTF8.self)
        let begin = try #require(text.firstRange(of: "proofs:\n")?.lowerBound)
        let end = try #require(text.firstRange(of: "budgets:\n")?.lowerBound)
        let proofs = """
            proofs:
              - {name: WAN to LAN by TCP is dropped, from: wan, to: lan, tcp: 22, expect: dropped}

            """
        try FileSystem.replace(parent, with: "\(text[..<begin])\(proofs)\(text[end...])")
        for kind in ["lock", "effects"] {
            try Command("cp", ["\(repository)/images/branch-office.\(kind)", "\(folder)/\(name).\(kind)"]).check()
        }
        try FileSystem.replace("\(folder)/\(name).yaml", with: "name: \(name)\nextends: branch-office\n")
        _ = try await build(name, images: folder, profile: "virtio", source: "branch-office", box: box)
        return options(images: folder, profile: "virtio", box: box)
    }

    private static func copyBox(to folder: String) throws {
        try FileSystem.remove(folder)
        try Command("cp", ["-a", "\(repository)/.build/box", folder]).check()
    }

    private static var pausingProgram: [UInt8] {
        // elf(5): the header, one loadable segment, and "mov eax, SYS_pause; syscall; jump back".
        let code: [UInt8] = [0x6A, 0x22, 0x58, 0x0F, 0x05, 0xEB, 0xF9]
        func bytes(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
        let base: UInt64 = 0x40_0000
        let size = UInt64(64 + 56 + code.count)
        var program: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        program += bytes(UInt16(2)) + bytes(UInt16(62)) + bytes(UInt32(1)) + bytes(base + 120)
        program += bytes(UInt64(64)) + bytes(UInt64(0)) + bytes(UInt32(0)) + bytes(UInt16(64))
        program += bytes(UInt16(56)) + bytes(UInt16(1)) + bytes(UInt16(0)) + bytes(UInt16(0)) + bytes(UInt16(0))
        program += bytes(UInt32(1)) + bytes(UInt32(5)) + bytes(UInt64(0)) + bytes(base) + bytes(base)
        program += bytes(size) + bytes(size) + bytes(UInt64(4096))
        return program + code
    }

    /// lab-minimal with `debug: true`. Its lock is lab-minimal's with one more package.
    static func debug() async throws -> BuiltImage {
        let folder = "\(output)/debug"
        try FileSystem.makeDirectory(folder)
        try Command("cp", ["-r", "\(repository)/images/profiles", "\(repository)/images/lab-minimal.yaml", folder])
            .check()
        try FileSystem.replace("\(folder)/lab-debug.yaml", with: "name: lab-debug\nextends: lab-minimal\ndebug: true\n")
        return try await build("lab-debug", images: folder, profile: "virtio", update: true)
    }

    /// branch-office with a shell on its console, a plugin in another language, a hostile one, and one that
    /// plans what its configuration lists.
    static func branchDebug() async throws -> (image: BuiltImage, options: ImageBuild.Options) {
        let hostile = "\(output)/hostile"
        try FileSystem.makeDirectory(hostile)
        try FileSystem.replace("\(hostile)/hostile", with: hostilePlugin, mode: 0o755)
        try FileSystem.replace("\(hostile)/manifest.json", with: hostileManifest)
        try FileSystem.replace(
            "\(hostile)/none.yang", with: "module none { namespace \"urn:none\"; prefix n; container hostile; }\n")
        let lines = "\(output)/lines"
        try FileSystem.makeDirectory(lines)
        try FileSystem.replace("\(lines)/lines", with: linesPlugin, mode: 0o755)
        try FileSystem.replace("\(lines)/manifest.json", with: linesManifest)
        try FileSystem.replace(
            "\(lines)/none.yang", with: "module none { namespace \"urn:none\"; prefix n; container lines; }\n")
        return try await branch(
            "branch-debug",
            """
            debug: true
            budgets: {virtio: {raw.zst: 90 MB}}
            plugins:
              - {path: \(repository)/Examples/plugins/port-knock,
                 allow: {stages: [openings accept], modules: [nf_tables]}}
              - \(hostile)
              - {path: \(lines), allow: {resources: [link, bridge-vlan, address, route],
                 modules: [8021q, bonding, vrf, dummy, veth, ifb]}}

            """, lock: nil)
    }

    private static let linesManifest = """
        {"name": "lines", "version": "1", "summary": "Plans what it is given", "contract": [1], "key": "lines", "yang": "none.yang",
         "publishes": [], "reads": [], "resources": ["kernel-module", "link", "bridge-vlan", "address", "route"],
         "allocates": {"tables": {"lines": [1000, 1000]}},
         "features": [{"name": "base", "packages": ["dash", "jq"], "modules": ["8021q", "bonding", "vrf", "dummy", "veth", "ifb"]}]}

        """

    private static let linesPlugin = """
        #!/bin/sh
        [ "$1" = describe ] && exec jq . "${0%/*}/manifest.json"
        [ "$1" = plan ] && exec jq --compact-output --sort-keys '.configuration[]'
        exit 0

        """

    private static let hostileManifest = """
        {"name": "hostile", "version": "1", "summary": "Means harm", "contract": [1], "key": "hostile", "yang": "none.yang",
         "publishes": [], "resources": ["file"], "features": [{"name": "base", "packages": ["dash", "jq"]}]}

        """

    private static let hostilePlugin = """
        #!/bin/sh
        folder=${0%/*}
        [ "$1" = describe ] && exec jq . "$folder/manifest.json"
        way=$(jq --raw-output .configuration.way)
        case "$way" in
        crash) sh -c 'kill -SEGV $$'; exit $? ;;
        fork) bomb() { bomb | bomb & }; bomb; exit 3 ;;
        sleep) while :; do read -r x <&2; done ;;
        garbage) echo '}{' ;;
        steal) cat /data/vcpe/commits/head >&2 || exit 9 ;;
        esac

        """

    /// branch-office with another site document.
    static func branch(site: [(from: String, to: String)]) async throws -> ImageBuild.Options {
        let folder = "\(output)/branch-broken"
        try FileSystem.makeDirectory(folder)
        var text = String(
            decoding: try FileSystem.read("\(repository)/images/branch-office.site.yaml"), as: UTF8.self)
        for change in site { text = text.editing(change.from, with: change.to) }
        try FileSystem.replace("\(folder)/broken.site.yaml", with: text)
        return try await branch("branch-broken", "site: broken.site.yaml\n", lock: "branch-office").options
    }

    private static func branch(
        _ name: String, _ more: String, lock: String?
    ) async throws -> (image: BuiltImage, options: ImageBuild.Options) {
        let folder = "\(output)/\(name)"
        try FileSystem.makeDirectory(folder)
        try copyBranch(to: folder)
        for kind in ["lock", "effects"] {
            if let lock {
                try Command("cp", ["\(repository)/images/\(lock).\(kind)", "\(folder)/\(name).\(kind)"]).check()
            }
        }
        try FileSystem.replace("\(folder)/\(name).yaml", with: "name: \(name)\nextends: branch-office\n\(more)")
        let image = try await build(
            name, images: folder, profile: "virtio", update: lock == nil, source: "branch-office")
        return (image, options(images: folder, profile: "virtio"))
    }

    /// The definitions that others extend, with branch-office's site.
    static func copyBranch(to folder: String) throws {
        for item in ["profiles", "lab-minimal.yaml", "branch-office.yaml", "branch-office.site.yaml"] {
            try Command("cp", ["-r", "\(repository)/images/\(item)", folder]).check()
        }
    }

    private static func options(images: String, profile: String, box: String? = nil) -> ImageBuild.Options {
        var options = ImageBuild.Options()
        options.images = images
        options.output = output
        options.box = box ?? "\(repository)/.build/box"
        options.profile = profile
        options.program = "\(repository)/.build/debug/vcpe"
        return options
    }

    /// - Parameters:
    ///   - source: the image of the repository that it extends, for its lock.
    ///   - folder: of its outputs; ``output`` when nil.
    ///   - box: the folder of the box's executables; the repository's own when nil.
    static func build(
        _ name: String, images: String, profile: String, update: Bool = false, source: String = "lab-minimal",
        to folder: String? = nil, box: String? = nil
    ) async throws -> BuiltImage {
        var options = options(images: images, profile: profile, box: box)
        if let folder { options.output = folder }
        // Locked again when the lock that it was made from is newer.
        options.update = try update && age("\(images)/\(name).lock") < age("\(repository)/images/\(source).lock")
        options.relockGone = true
        _ = try await ImageBuild(name, options: options) { event in
            if case .finished(let step, let note, _) = event { print("\(name): \(step): \(note)") }
        }.build()
        return try BuiltImage(name, profile: profile, output: options.output)
    }

    /// A file's time of change, in seconds since 1970; 0 for an absent file.
    private static func age(_ path: String) throws -> Int {
        FileSystem.exists(path) ? try File(path).status().st_mtim.tv_sec : 0
    }

    /// The accelerator that works on this host.
    static func accelerator(_ image: BuiltImage, in folder: String) throws -> Accelerator {
        try Accelerator.working(qemu: QEMU.find(), kernel: image.kernel(in: folder), cache: .standard)
    }

    /// A sparse copy that a machine may write.
    static func copy(_ image: BuiltImage, to path: String) throws {
        try Command("cp", ["--sparse=always", image.raw, path]).check()
    }

    /// A command line of an image with another hash of its root, which is its last word before `--`.
    static func withWrongRoot(_ line: String) -> String {
        let own = line.hasSuffix(" --") ? line.dropLast(3) : line[...]
        return String(own.dropLast(1)) + (own.last == "0" ? "1" : "0") + " --"
    }

    static func direct(_ image: BuiltImage, disk: String, folder: String, more: String = "") throws -> VirtualMachine {
        try FileSystem.makeDirectory(folder)
        var machine = VirtualMachine(
            firmware: .direct(
                kernel: try image.kernel(in: folder), initramfs: image.initramfs,
                commandLine: try image.commandLine() + more), disks: [.init(path: disk)])
        machine.accelerator = try accelerator(image, in: folder)
        return machine
    }

    /// - Parameter certificate: the only one whose signatures the firmware accepts; nil for no Secure Boot.
    static func uefi(disk: String, folder: String, certificate: String? = nil) throws -> VirtualMachine {
        try FileSystem.makeDirectory(folder)
        return VirtualMachine(
            firmware: try OVMF.makeVariables("\(folder)/vars", certificate: certificate), disks: [.init(path: disk)])
    }

    /// Writes a record of proofs that passed, for tests of releases that do not test proofs.
    static func writeProofs(of image: BuiltImage) throws {
        let now = time(nil)
        var record = ProofRecord(
            image: image.stem, version: "", profile: image.profile, started: now, ended: now,
            machine: .init(
                firmware: "uefi", loaderEntry: "vcpe-1.efi", secureBoot: true, accelerator: "tcg", disk: "virtio",
                network: "virtio-net-pci"), digests: try image.digests())
        record.controls = [.init("boots", .passed, seen: "")]
        record.proofs = [.init("none", .passed, seen: "")]
        let kind = ProbePacket(form: .udp, family: .ipv4)
        record.traffic = [.init(kind: kind, from: .wan, sent: 1, arrived: 0, leaked: 0)]
        try FileSystem.replace("\(image.folder)/\(image.stem).proofs.json", with: record.json.pretty)
    }
}
