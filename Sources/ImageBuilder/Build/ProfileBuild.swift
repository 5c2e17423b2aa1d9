import Digests
import Disks
import Documents
import Files
import Glibc

/// The steps that make one hardware profile's outputs.
struct ProfileBuild {
    let definition: Definition
    let profile: HardwareProfile
    let plugins: [BuiltPlugin]
    let lock: Lock
    let effects: Effects
    let options: ImageBuild.Options
    let cache: Cache
    let steps: Steps
    let folder: String
    /// The start of the outputs' names.
    let stem: String

    private func path(_ output: String) -> String { "\(folder)/\(output)" }

    private var raw: String { "\(stem).raw" }
    private var root: String { "\(stem).root" }
    private var uki: String { "\(stem).efi" }
    private var initramfs: String { "\(stem).initramfs" }
    private var manifest: String { "\(stem).manifest" }
    private var reports: [String] { ["\(stem).spdx.json", "\(stem).report"] }
    /// Intermediate files: the boot loader for the disk, and the manifest's lines of packages and
    /// files.
    private var loader: String { ".steps/\(stem).loader" }
    private var contents: String { ".steps/\(stem).contents" }

    func build() async throws -> [String] {
        let section = lock.sections[profile.name] ?? []
        let tools = lock.sections[Lock.tools] ?? []
        func digest(_ packages: [LockedPackage]) -> String {
            SHA256.hash(Array(packages.map(\.digest.hex).sorted().joined().utf8)).hex
        }
        var system = ["the builder": try BuilderIdentity.digest()]
        for package in section { system["the package \(package.name)"] = package.digest.hex }
        system["the tools"] = digest(tools)
        system["the definition"] = definition.digest.hex
        system["the profile"] = profile.digest.hex
        system["user numbers"] =
            "\(lock.users.sorted { $0.key < $1.key }) \(lock.groups.sorted { $0.key < $1.key })"
        for plugin in plugins { system["the plugin \(plugin.manifest.name)"] = plugin.digest.hex }
        if let site = definition.site {
            let bytes = try? FileSystem.read("\(options.images)/\(site.value)")
            system["the factory site"] = bytes.map { SHA256.hash($0).hex } ?? "missing"
        }
        let box = try boxExecutables()
        for (path, content) in box { system[path] = content.digest.hex }
        system["the effects"] = SHA256.hash(Array(effects.text.utf8)).hex
        system.merge(try definition.sourceDigests(in: options.images)) { $1 }
        if let keys = definition.secureBoot {
            for file in [keys.key, keys.certificate] {
                let bytes = try? FileSystem.read("\(options.images)/\(file.value)")
                system["the file \(file.value)"] = bytes.map { SHA256.hash($0).hex } ?? "missing"
            }
        }
        let made = try await steps.run(
            "\(profile.name)-system", inputs: system, outputs: [root, initramfs, uki, loader, contents] + reports
        ) { try await buildSystem(section, tools: tools, box: box) }

        let lazyTools = LazyTools(packages: tools, cache: cache)
        let disk = [
            "the system": made["digest"] ?? "", "the builder": try BuilderIdentity.digest(),
            "the tools": digest(tools), "the partitions": "\(definition.partitions)",
        ]
        // The manifest is written last: it contains the digests of the other outputs.
        _ = try await steps.run("\(profile.name)-disk", inputs: disk, outputs: [raw, manifest]) {
            let note = try buildDisk(try lazyTools.unpack())
            try writeManifest(made)
            return (note, [:])
        }
        let further = options.release ? definition.outputs : []
        // Outputs of an earlier build would belong to another disk.
        for (output, name) in [(Definition.Output.rawZstd, "\(raw).zst"), (.qcow2, "\(stem).qcow2")]
        where !further.contains(output) { try FileSystem.remove(path(name)) }
        var outputs = [raw, root, initramfs, uki, manifest] + reports
        if further.contains(.rawZstd) {
            let name = "\(raw).zst"
            _ = try await steps.run(
                "\(profile.name)-raw.zst", inputs: disk, outputs: [name]
            ) {
                let tools = try lazyTools.unpack()
                try FileSystem.replace(path(name)) { (file: File) throws(any Error) in
                    try compress(path(raw), to: file, tools: tools)
                }
                return ("\(Size.text(try Size.of(path(name))))", [:])
            }
            outputs.append(name)
        }
        if further.contains(.qcow2) {
            let name = "\(stem).qcow2"
            _ = try await steps.run(
                "\(profile.name)-qcow2",
                inputs: disk, outputs: [name]
            ) {
                try FileSystem.replace(path(name), sync: false) { (file: File) throws(any Error) in
                    try QCOW2.write(try File(path(raw)), to: file)
                }
                return ("\(Size.text(try Size.of(path(name))))", [:])
            }
            outputs.append(name)
        }
        try checkBudgets()
        return outputs
    }

    // MARK: - Root, initramfs and UKI

    private func buildSystem(
        _ section: [LockedPackage], tools: [LockedPackage], box: [String: Content]
    ) async throws -> (note: String, values: [String: String]) {
        let packages = try await UnpackedPackage.readAll(section, cache: cache)
        let toolPackages = try await UnpackedPackage.readAll(tools, cache: cache)
        // Only the cached packages of the reference root: they merely make an error clearer.
        let further = try await UnpackedPackage.readAll(
            (lock.sections[Lock.reference] ?? []).filter { FileSystem.exists(cache.package($0.digest)) }, cache: cache)
        let tools = try Tools(toolPackages, cache: cache)
        var composer = Composer(
            definition: definition, profile: profile, packages: packages, plugins: plugins, lock: lock,
            effects: effects, further: further, folder: options.images, cache: cache)
        let signing = try definition.secureBoot.map {
            try Authenticode(key: $0.key, certificate: $0.certificate, folder: options.images)
        }
        func signed(_ image: [UInt8]) throws -> [UInt8] { try signing?.sign(image) ?? image }
        let loader = try signed(try tools.file("usr/lib/systemd/boot/efi/systemd-bootx64.efi"))
        var box = box
        // On the box, the updater lets the firmware try a new loader before it replaces the old
        // one.
        if upgrades { box["/usr/lib/vcpe/loader.efi"] = Content(loader) }
        var composed = try await composer.compose(box: box)
        try CachedModules(packages: packages, cache: cache).verify([composed.tree, composed.kernel.bootTree])
        composed.remarks += try FactorySite(
            definition: definition, plugins: plugins, packages: packages, box: options.box, cache: cache
        ).check(composed.tree)

        // The salt is constant for a product: a new salt in each release would change all hashes.
        let salt = SHA256.hash(Array("vcpe salt \(definition.name)".utf8)).bytes
        var verity: Verity?
        var fileSystemSize = 0
        try await FileSystem.replace(path(root), sync: false) { (file: File) async throws in
            fileSystemSize = try EROFS(
                composed.tree, time: BuildTime.epoch, uuid: GUID(named: "vcpe root \(definition.name)").bytes
            ).write(to: file)
            verity = try await Verity.append(to: file, at: 0, size: fileSystemSize, salt: salt)
        }
        guard let verity else {
            throw BuildFailure(
                "\(path(root)): the root's hash tree was not made", hint: "report this as a bug of vcpe")
        }
        guard verity.totalSize <= definition.partitions.root else {
            throw BuildFailure(
                "the root needs \(Size.text(verity.totalSize)), its partition has \(Size.text(definition.partitions.root))",
                hint: "raise partitions.root, or leave packages out")
        }

        let archive = try Initramfs.archive(bootTree(composed, box: box), time: BuildTime.epoch)
        // The kernel loads microcode only from an uncompressed archive before the others.
        let compressed =
            try Initramfs.archive(composed.kernel.microcode, time: BuildTime.epoch) + compressed(archive, tools: tools)
        try FileSystem.replace(path(initramfs), with: compressed)

        var image = try UnifiedKernelImage.append(
            [
                (".osrel", Self.unversioned(try read(composed.tree, "usr/lib/os-release"))),
                (".uname", Array(composed.kernel.release.utf8)),
                (".linux", try composed.kernel.image.read()),
                (".initrd", compressed),
            ] + BootEntries(commandLine: commandLine(verity), hasFactoryReset: hasFactoryReset).sections,
            to: try tools.file("usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
        image = try signed(image)
        try EFISystemPartition.checkSize(
            definition.partitions.efiSystem, kernelImage: image.count, loader: loader.count, upgrades: upgrades)
        try FileSystem.replace(path(uki), with: image)
        try FileSystem.replace(path(self.loader), with: loader)

        let report = Report(
            definition: definition, profile: profile, packages: packages, composed: composed, verity: verity,
            sizes: [
                "root file system": fileSystemSize, "root with hash tree": verity.totalSize,
                "initramfs": compressed.count, "UKI": image.count,
            ], box: box, loaders: toolPackages.filter { $0.package.name == "systemd-boot-efi" },
            isSigned: definition.secureBoot != nil, plugins: plugins)
        try FileSystem.replace(path(contents), with: report.contents)
        try FileSystem.replace(path("\(stem).spdx.json"), with: try report.spdx())
        try FileSystem.replace(path("\(stem).report"), with: report.text)

        var values: [String: String] = ["root-hash": verity.rootHash.hex]
        for output in [BuiltOutput.root, .uki, .initramfs] {
            let digest = try OutputDigest(of: path("\(stem).\(output.rawValue)"), output.algorithm)
            values[output.rawValue] = "\(digest.size) \(digest.digest.hex)"
        }
        let parts =
            values.sorted { $0.key < $1.key }.map(\.value) + [
                SHA256.hash(loader).hex, SHA256.hash(Array(report.contents.utf8)).hex,
            ]
        values["digest"] = SHA256.hash(Array(parts.joined(separator: " ").utf8)).hex
        return (
            "root \(Size.text(verity.totalSize)), initramfs \(Size.text(compressed.count)), UKI \(Size.text(image.count))",
            values
        )
    }

    /// Writes the manifest with the digests that the steps of its outputs computed.
    ///
    /// - Parameter made: the system step's values.
    private func writeManifest(_ made: [String: String]) throws {
        var outputs: [BuiltOutput: OutputDigest] = [.raw: try OutputDigest(of: path(raw), .sparse)]
        for output in [BuiltOutput.root, .uki, .initramfs] {
            let words = (made[output.rawValue] ?? "").split(separator: " ")
            guard words.count == 2, let size = Int(words[0]), let digest = Digest(hex: words[1]) else {
                throw BuildFailure(
                    "\(steps.folder)/.steps: the step \(profile.name)-system recorded no digest of \(output.rawValue)",
                    hint: "rm -r \(steps.folder)/.steps, and build again")
            }
            outputs[output] = OutputDigest(size: size, algorithm: output.algorithm, digest: digest)
        }
        let text = Manifest.text(
            image: definition.name, version: definition.version, profile: profile.name,
            rootHash: made["root-hash"] ?? "", outputs: outputs,
            contents: String(decoding: try FileSystem.read(path(contents)), as: UTF8.self))
        try FileSystem.replace(path(manifest), with: text)
    }

    /// The engine performs the reset, so an image without plugins has none.
    private var hasFactoryReset: Bool { definition.hasFactoryReset && !plugins.isEmpty }

    private var upgrades: Bool { plugins.contains { $0.manifest.name == "upgrade" } }

    private func boxExecutables() throws -> [String: Content] {
        var box: [String: Content] = [:]
        for name in ["vcpe-init"] + (plugins.isEmpty ? [] : ["vcpe-box"]) + (upgrades ? ["vcpe-updater"] : []) {
            let path = "\(options.box)/\(name)"
            guard FileSystem.exists(path) else {
                throw BuildFailure("there is no \(path), an executable of the box", hint: "make box")
            }
            // The bytes, not the path: a concurrent build can replace the file.
            box["/usr/lib/vcpe/\(name)"] = Content(try FileSystem.read(path))
        }
        return box
    }

    private func bootTree(_ composed: Composer.Result, box: [String: Content]) -> Tree {
        var tree = composed.kernel.bootTree
        if let initial = box["/usr/lib/vcpe/vcpe-init"] {
            tree["init"] = TreeEntry(.file(initial), mode: 0o755, origin: Composer.origin)
        }
        for name in ["dev", "proc", "sys", "run", "sysroot", "etc"] {
            tree[name] = TreeEntry(.directory, mode: 0o755, origin: Composer.origin)
        }
        if definition.debug, let shell = composed.tree["usr/bin/busybox"] {
            tree["bin"] = TreeEntry(.directory, mode: 0o755, origin: Composer.origin)
            tree["bin/sh"] = shell
        }
        return tree
    }

    /// The loader boots the entry with the highest number, which was installed last. A version in
    /// os-release would take precedence over that number (systemd-boot(7)).
    private static func unversioned(_ release: [UInt8]) -> [UInt8] {
        let lines = String(decoding: release, as: UTF8.self).split(separator: "\n")
        let versions = ["IMAGE_VERSION=", "VERSION=", "VERSION_ID=", "BUILD_ID="]
        return lines.filter { line in !versions.contains { line.hasPrefix($0) } }.flatMap { Array(($0 + "\n").utf8) }
    }

    private func read(_ tree: Tree, _ path: String) throws -> [UInt8] {
        guard case .file(let content)? = tree[path]?.kind else { return [] }
        return try content.read()
    }

    /// Compresses an archive for the kernel. The result is cached, because modules and PID 1 seldom
    /// change.
    private func compressed(_ archive: [UInt8], tools: Tools) throws -> [UInt8] {
        try cache.derived("initramfs", "\(SHA256.hash(archive).hex)-\(tools.key).zst") { file in
            let scratch = "\(folder)/.steps/\(stem).cpio"
            try FileSystem.replace(scratch, with: archive)
            defer { try? FileSystem.remove(scratch) }
            try compress(scratch, to: file, tools: tools)
        }
    }

    /// Compresses with the suite's zstd. The output of its multi-threaded mode doesn't depend on
    /// the number of threads.
    private func compress(_ source: String, to target: File, tools: Tools) throws {
        try tools.command("usr/bin/zstd", ["-q", "-19", "-T0", "-c", source]).check(output: target)
    }

    // MARK: - Disk

    /// - Returns: a note for the operator.
    private func buildDisk(_ tools: Tools) throws -> String {
        let name = "\(definition.name)-\(profile.name)"
        func guid(_ part: String) -> GUID { GUID(named: "vcpe \(part) \(name)") }
        let sizes = definition.partitions
        let table = PartitionTable(
            guid: guid("disk"),
            wanted: [
                ("esp", PartitionTable.Kind.efiSystem, guid("esp"), sizes.efiSystem),
                ("state", PartitionTable.Kind.state, guid("state"), 1 << 20),
                ("root-a", PartitionTable.Kind.root, guid("root-a"), sizes.root),
                ("root-b", PartitionTable.Kind.root, guid("root-b"), sizes.root),
                ("data", PartitionTable.Kind.linuxData, guid("data"), sizes.data),
            ])
        let loader = try FileSystem.read(path(self.loader))
        let esp = EFISystemPartition(
            files: [
                ("EFI/BOOT/BOOTX64.EFI", loader),
                ("EFI/systemd/systemd-bootx64.efi", loader),
                ("EFI/Linux/vcpe-1.efi", try FileSystem.read(path(uki))),
                (
                    "vcpe/README.txt",
                    Array("Put a site document here as site.yaml; the box reads it at its first boot.\r\n".utf8)
                ),
            ] + BootEntries.files(hasFactoryReset: hasFactoryReset),
            size: sizes.efiSystem, serial: guid("esp").bytes.integer(at: 0, UInt32.self) ?? 1)
        let scratch = "\(folder)/.steps/\(stem).esp"
        try esp.write(to: scratch, tools: tools)
        defer { try? FileSystem.remove(scratch) }
        try FileSystem.replace(path(raw), sync: false) { (file: File) throws(any Error) in
            try file.resize(to: table.diskSize)
            for (source, partition) in [(scratch, "esp"), (path(root), "root-a")] {
                let from = try File(source)
                guard let target = table[partition]?.offset else { continue }
                for extent in try Sparse.extents(of: from, unit: 4096) {
                    try file.copy(from: from, at: extent.offset, count: extent.count, to: target + extent.offset)
                }
            }
            try table.write(to: file)
        }
        var status = stat()
        _ = stat(path(raw), &status)
        return "\(Size.text(table.diskSize)), \(Size.text(Int(status.st_blocks) * 512)) of them data"
    }

    private func checkBudgets() throws {
        let files = ["raw.zst": "\(raw).zst", "root": root, "initramfs": initramfs, "uki": uki]
        var problems: [Problem] = []
        for (name, budget) in (definition.budgets[profile.name] ?? [:]).sorted(by: { $0.key < $1.key }) {
            let file = files[name].map(path) ?? "\(options.box)/\(name)"
            guard FileSystem.exists(file) else { continue }
            let size = try Size.of(file)
            if size > budget.value {
                // A security update may exceed the budget by 3 %; for a release, the budget must be
                // raised.
                if !options.release, size <= budget.value + budget.value * 3 / 100 {
                    steps.observe(
                        .remark(
                            "\(budget.position): \(file) has \(Size.text(size)), the budget is \(Size.text(budget.value)): "
                                + "an error in a release"))
                    continue
                }
                problems.append(
                    budget.problem(
                        "\(file) has \(Size.text(size)), the budget is \(Size.text(budget.value))",
                        hint: "the largest are \(try largestPackages()); \(path("\(stem).report")) has more"))
            }
        }
        if !problems.isEmpty { throw InvalidDocument(problems) }
    }

    /// The largest packages of the report, for the hint of an error.
    private func largestPackages() throws -> String {
        let report = String(decoding: try FileSystem.read(path("\(stem).report")), as: UTF8.self)
        let lines = report.split(separator: "\n").drop { $0 != Report.largestHeading }.dropFirst().prefix(3)
        return lines.map { $0.split(separator: " ").joined(separator: " ") }.joined(separator: ", ")
    }
}

/// Unpacks the tools only when a step needs them: an unchanged build needs none.
private struct LazyTools {
    let packages: [LockedPackage]
    let cache: Cache

    func unpack() throws -> Tools {
        try Tools(packages.map { try UnpackedPackage.read($0, cache: cache) }, cache: cache)
    }
}

/// The builder's identity: another version can make other bytes from the same inputs.
enum BuilderIdentity {
    /// Read once: it does not change while it runs.
    static func digest() throws -> String { try read.get() }

    private static let read = Result { SHA256.hash(try File("/proc/self/exe").readAll()).hex }
}
