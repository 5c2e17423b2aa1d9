import Digests
import Documents
import Files

/// What a kind of box needs to run: `images/profiles/NAME.yaml`.
public struct HardwareProfile: Sendable, Hashable {
    /// Of the document's content, without comments and layout.
    public var digest: Digest
    public var name: String
    /// One line for people.
    public var summary: String
    /// The package that depends on the kernel, such as `linux-image-cloud-amd64`.
    public var kernel: Located<String>
    /// Kernel modules in the root: names with `*` and `?`, or folders of the kernel's tree ending in `/`.
    public var modules: [Located<String>]
    /// Kernel modules in the initramfs, loaded in this order (with their dependencies) before the disk is looked for.
    public var bootModules: [Located<String>]
    /// Kernel modules in the initramfs that are loaded where their hardware is found.
    public var storageModules: [Located<String>]
    /// Packages of the area `non-free-firmware`, taken unless the definition says `firmware: false`.
    public var firmware: [Located<String>]
    /// Early microcode packages, likewise; they go in front of the initramfs.
    public var microcode: [Located<String>]
    /// Patterns of the firmware files to keep, below /usr/lib/firmware; all when empty.
    public var firmwareFiles: [String]
    /// Consoles on the kernel's command line; the last one is /dev/console.
    public var consoles: [String]
    /// What `vcpe run` and `vcpe test` build a virtual machine from that stands for such a box.
    public var machine: VirtualMachine.Hardware

    /// Reads the profile that a definition names.
    public static func read(_ name: Located<String>, folder: String) throws -> HardwareProfile {
        let path = "\(folder)/profiles/\(name.value).yaml"
        guard FileSystem.exists(path) else {
            let known = ((try? FileSystem.list("\(folder)/profiles")) ?? []).filter { $0.hasSuffix(".yaml") }
                .map { String($0.dropLast(5)) }
            let meant = didYouMean(name.value, among: known).map { "did you mean \($0)? " } ?? ""
            throw InvalidDocument([
                name.problem(
                    "there is no hardware profile \"\(name.value)\"",
                    hint: meant + "known are \(known.joined(separator: ", ")) in \(folder)/profiles")
            ])
        }
        let problems = ProblemList()
        let node = try YAML.read(try FileSystem.read(path), file: path)
        let profile = shape(name.value).read(node, path: "", into: problems)
        try problems.throwIfAny()
        guard let profile else { throw InvalidDocument(problems.problems) }
        return profile
    }

    private static func shape(_ name: String) -> Shape<HardwareProfile> {
        .mapping("a hardware profile") { fields in
            let summary = fields.required("summary", .text)
            let kernel = fields.required("kernel", Definition.packageName.located)
            let modules = fields.optional("modules", .list(of: Shape.text.located)) ?? []
            let bootModules = fields.required("boot-modules", .list(of: Shape.text.located))
            let storageModules = fields.optional("storage-modules", .list(of: Shape.text.located)) ?? []
            let firmware = fields.optional("firmware", .list(of: Definition.packageName.located)) ?? []
            let microcode = fields.optional("microcode", .list(of: Definition.packageName.located)) ?? []
            let firmwareFiles = fields.optional("firmware-files", .list(of: .text)) ?? []
            let consoles = fields.optional("consoles", .list(of: .text)) ?? ["tty0", "ttyS0,115200"]
            let machine = fields.optional("machine", Self.machine) ?? VirtualMachine.Hardware()
            guard let summary, let kernel, let bootModules else { return nil }
            return HardwareProfile(
                digest: SHA256.hash(Array(fields.node.canonical.utf8)), name: name, summary: summary, kernel: kernel,
                modules: modules, bootModules: bootModules,
                storageModules: storageModules, firmware: firmware, microcode: microcode, firmwareFiles: firmwareFiles,
                consoles: consoles, machine: machine)
        }
    }

    private static var machine: Shape<VirtualMachine.Hardware> {
        .mapping("a virtual machine's devices") { fields in
            let buses = Shape<String>.oneOf(VirtualMachine.Bus.allCases.map(\.rawValue))
            let cards = Shape<String>.oneOf(VirtualMachine.Card.allCases.map(\.rawValue))
            var machine = VirtualMachine.Hardware()
            if let disk = fields.optional("disk", buses.map { VirtualMachine.Bus(rawValue: $0) }) {
                machine.disk = disk
            }
            if let network = fields.optional("network", cards.map { VirtualMachine.Card(rawValue: $0) }) {
                machine.network = network
            }
            return machine
        }
    }
}
