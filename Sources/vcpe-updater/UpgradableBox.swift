import CSystem
import Digests
import Documents
import Files
import Glibc
import Slots
import Transfers
import Updates

/// The box that this program runs on.
struct UpgradableBox {
    /// Kept between releases, outside the slots.
    static let state = "/data/vcpe/upgrade"
    /// The first root of the provider's repository: part of the image, and so of what is verified.
    static let trustAnchor = "/usr/lib/vcpe/trust/root.json"
    /// Certificates in PEM by which alone servers are known; not there for those that the image's system knows.
    static let serverAnchors = "/usr/lib/vcpe/trust/servers.pem"
    /// Written by the plugin `upgrade`.
    static let settings = "/run/vcpe/upgrade/settings.json"

    /// The box's own number, by its identity: what tells it from others that do the same at the same time.
    static var share: UInt64 {
        ((try? FileSystem.read("/run/vcpe/machine-id")) ?? []).reduce(5381) { $0 &* 33 &+ UInt64($1) }
    }

    let disk: BoxDisk
    let image: String
    let version: String
    let profile: String
    let entry: BootEntry

    init() throws {
        disk = try BoxDisk()
        let words = try FileSystem.words("/usr/lib/vcpe/image")
        (image, version, profile) = (words["name"] ?? "", words["version"] ?? "", words["profile"] ?? "")
        guard
            let entry = try BootEntry(String(disk.entryName.prefix { $0 != "@" }))
                ?? BootPartition(File(disk.device("esp"))).release(behind: disk.entryName)
        else {
            throw SlotFailure(
                "this box was not started by its boot loader, so nobody could start another release",
                hint: "start it by UEFI")
        }
        self.entry = entry
    }

    var boot: File { get throws { try File(try disk.device("esp"), O_RDWR) } }

    /// Where blocks of the running root are, by the kernel's command line.
    func layout() throws -> VerityLayout {
        guard let root = try KernelCommandLine().verifiedRoot, let salt = Hex.bytes(root.salt) else {
            throw SlotFailure("the kernel's command line names no verified root")
        }
        return VerityLayout(dataBlocks: root.dataBlocks, salt: salt)
    }

    func target() throws -> InstallTarget {
        let slot = try File(try disk.device(disk.otherSlot), O_RDWR)
        return InstallTarget(
            version: version, entry: entry.number, running: try File(try disk.device(disk.slot)), layout: try layout(),
            slot: slot, slotBytes: try slot.size(), boot: try boot,
            forgetBuffers: { csystem_forget_buffers(slot.descriptor) })
    }
}

/// What the site's configuration says of upgrades.
struct UpgradeSettings {
    /// Of the repository, and of its mirrors.
    var addresses: [String]
    private var options: Reader.Options
    /// Whether another process has the network.
    var hasFetcher: Bool { options.fetcher != nil }
    var channel: String
    /// Whose releases the director names; nil for a box that takes what its channel has.
    var group: String?
    /// Where the director's files are; nil for the repository itself.
    var director: String?
    /// Seconds that all probes must hold before a new release is good.
    var healthTime: Int
    /// When releases may be installed and started without being asked for; nil for never.
    var window: MaintenanceWindow?
    /// Numbers of the groups whose members may ask, by the role's name.
    var groups: [String: Int]

    init() throws {
        guard let json = try? JSON.parse(FileSystem.read(UpgradableBox.settings)),
            let repository = json["repository"]?.text
        else {
            throw SlotFailure(
                "the site names no repository of releases",
                hint: "upgrade: {repository: https://…} in the site's document")
        }
        addresses = [repository] + (json["mirrors"]?.list ?? []).compactMap(\.text)
        options = Reader.Options(
            proxy: json["proxy"]?.text, bytesPerSecond: json["bandwidth"]?.integer.map { $0 / 8 },
            trustAnchors: FileSystem.exists(UpgradableBox.serverAnchors) ? UpgradableBox.serverAnchors : nil,
            fetcher: json["fetcher"]?.text)
        channel = json["channel"]?.text ?? "stable"
        (group, director) = (json["group"]?.text, json["director"]?.text)
        healthTime = json["health-time"]?.integer ?? 60
        window = MaintenanceWindow(json["window"])
        groups = json["groups"]?.object?.compactMapValues(\.integer) ?? [:]
    }

    /// - Parameters:
    ///   - addresses: nil for the repository's own.
    ///   - rounds: how often all addresses are asked while they fail in passing.
    ///   - stallTime: seconds with next to no data after which one is given up.
    func repository(_ addresses: [String]? = nil, rounds: Int = 6, stallTime: Int = 30) -> Repository {
        var options = options
        options.stallTime = stallTime
        return Repository(addresses ?? self.addresses, options: options, rounds: rounds)
    }

    /// When this box looks by itself: with a director at any time, whose own window then counts too; nil for never.
    var looks: MaintenanceWindow? {
        guard group != nil else { return window }
        var looks = window ?? .always
        looks.isHourly = true
        return looks
    }
}
