import Files
import Glibc
import ImageBuilder
import Processes
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

    /// branch-office for people who log in.
    static func managed() async throws -> (image: BuiltImage, options: ImageBuild.Options) {
        let images = "\(repository)/images"
        return (
            try await build("branch-managed", images: images, profile: "virtio"),
            options(images: images, profile: "virtio")
        )
    }

    /// lab-minimal signed with OVMF's public test key.
    static func signed() async throws -> BuiltImage {
        let folder = "\(output)/signed"
        try FileSystem.makeDirectory(folder)
        let key = "/usr/share/ovmf/PkKek-1-snakeoil"
        try Command("cp", ["-r", "\(repository)/images/profiles", "\(repository)/images/lab-minimal.yaml", folder])
            .check()
        try Command("cp", ["\(repository)/images/lab-minimal.lock", "\(folder)/lab-signed.lock"]).check()
        try Command("cp", ["\(key).pem", "\(folder)/snakeoil.pem"]).check()
        try Command(
            "openssl", ["rsa", "-in", "\(key).key", "-passin", "pass:snakeoil", "-out", "\(folder)/snakeoil.key"]
        ).check()
        try FileSystem.replace(
            "\(folder)/lab-signed.yaml",
            with: """
                name: lab-signed
                extends: lab-minimal
                secure-boot: {key: snakeoil.key, certificate: snakeoil.pem}

                """)
        return try await build("lab-signed", images: folder, profile: "virtio")
    }

    /// lab-minimal with the debug switch on; its lock is made from lab-minimal's own, one package more.
    static func debug() async throws -> BuiltImage {
        let folder = "\(output)/debug"
        try FileSystem.makeDirectory(folder)
        try Command("cp", ["-r", "\(repository)/images/profiles", "\(repository)/images/lab-minimal.yaml", folder])
            .check()
        try FileSystem.replace("\(folder)/lab-debug.yaml", with: "name: lab-debug\nextends: lab-minimal\ndebug: true\n")
        return try await build("lab-debug", images: folder, profile: "virtio", update: true)
    }

    /// branch-office with a shell on its console, a plugin in another language, and one that means harm.
    static func branchDebug() async throws -> (image: BuiltImage, options: ImageBuild.Options) {
        let hostile = "\(output)/hostile"
        try FileSystem.makeDirectory(hostile)
        try FileSystem.replace("\(hostile)/hostile", with: hostilePlugin, mode: 0o755)
        try FileSystem.replace("\(hostile)/manifest.json", with: hostileManifest)
        try FileSystem.replace(
            "\(hostile)/none.yang", with: "module none { namespace \"urn:none\"; prefix n; container hostile; }\n")
        return try await branch(
            "branch-debug",
            """
            debug: true
            budgets: {virtio: {raw.zst: 90 MB}}
            plugins: [\(repository)/Examples/plugins/port-knock, \(hostile)]

            """, lock: nil)
    }

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
        for change in site { text = text.replacing(change.from, with: change.to) }
        try FileSystem.replace("\(folder)/broken.site.yaml", with: text)
        return try await branch("branch-broken", "site: broken.site.yaml\n", lock: "branch-office.lock").options
    }

    private static func branch(
        _ name: String, _ more: String, lock: String?
    ) async throws -> (image: BuiltImage, options: ImageBuild.Options) {
        let folder = "\(output)/\(name)"
        try FileSystem.makeDirectory(folder)
        try copyBranch(to: folder)
        if let lock { try Command("cp", ["\(repository)/images/\(lock)", "\(folder)/\(name).lock"]).check() }
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

    private static func options(images: String, profile: String) -> ImageBuild.Options {
        var options = ImageBuild.Options()
        options.images = images
        options.output = output
        options.box = "\(repository)/.build/box"
        options.profile = profile
        return options
    }

    /// - Parameters:
    ///   - source: the image of the repository that it extends, for its lock.
    ///   - folder: where its outputs go; where all others' are when nil.
    static func build(
        _ name: String, images: String, profile: String, update: Bool = false, source: String = "lab-minimal",
        to folder: String? = nil
    ) async throws -> BuiltImage {
        var options = options(images: images, profile: profile)
        if let folder { options.output = folder }
        options.rawOnly = true
        // Made anew when what it was made from is newer.
        options.update = try update && age("\(images)/\(name).lock") < age("\(repository)/images/\(source).lock")
        options.relockGone = true
        _ = try await ImageBuild(name, options: options) { event in
            if case .finished(let step, let note, _) = event { print("\(name): \(step): \(note)") }
        }.build()
        return try BuiltImage(name, profile: profile, output: options.output)
    }

    /// When a file was changed, in seconds; 0 for one that isn't there.
    private static func age(_ path: String) throws -> Int {
        FileSystem.exists(path) ? try File(path).status().st_mtim.tv_sec : 0
    }

    /// What runs the machines here.
    static func accelerator(_ image: BuiltImage, in folder: String) throws -> Accelerator {
        try Accelerator.working(qemu: QEMU.find(), kernel: image.kernel(in: folder), cache: .standard)
    }

    /// A sparse copy that a machine may write.
    static func copy(_ image: BuiltImage, to path: String) throws {
        try Command("cp", ["--sparse=always", image.raw, path]).check()
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

    static func uefi(disk: String, folder: String, secureBoot: Bool = false) throws -> VirtualMachine {
        try FileSystem.makeDirectory(folder)
        let template = try OVMF.find(secureBoot: secureBoot).variables
        try FileSystem.replace("\(folder)/vars", with: try FileSystem.read(template))
        return VirtualMachine(
            firmware: .uefi(variables: "\(folder)/vars", secureBoot: secureBoot), disks: [.init(path: disk)])
    }
}
