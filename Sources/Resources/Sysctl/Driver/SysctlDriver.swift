import Files
import Glibc
import Planning
import PluginKit

extension SysctlResource: DrivenResource { typealias ItsDriver = SysctlDriver }

/// Sysctls. What no plan has any more gets its earlier value back.
struct SysctlDriver: Driver {
    static let watch = DriftWatch.polling

    private let remember: ([String: String]) -> Void
    private let advertisements: RouterAdvertisements

    init(_ context: DriverContext) {
        remember = context.remember
        advertisements = RouterAdvertisements(socket: context.socket)
    }

    func steps(_ change: KindChange<SysctlResource>) -> [Step] {
        let known = change.plans.old.sysctls
        return [
            Step(.sysctls) {
                let wanted = change.wanted
                let unknown = wanted.map(\.key).filter { known[$0] == nil }
                remember(Dictionary(unknown.compactMap { key in value(of: key).map { (key, $0) } }) { $1 })
                let waiting = Self.waiting(change.plans.new)
                var changed: [String] = []
                for sysctl in wanted where !waiting(sysctl.key) || value(of: sysctl.key) != nil {
                    let isChanged = try set(sysctl.key, sysctl.value)
                    if isChanged || !change.isSettled { changed.append(sysctl.key) }
                }
                try forgetAdvertisements(changed)
            },
            Step(.sysctlRestoration) {
                let wanted = Set(change.wanted.map(\.key))
                let old = known.sorted { $0.key < $1.key }.filter { !wanted.contains($0.key) }
                for (key, value) in old { try restore(key, value) }
                try forgetAdvertisements(old.map(\.key))
            },
        ]
    }

    /// Whether a key is of a link that a service makes, or that needs such a link.
    private static func waiting(_ plan: Plan) -> (String) -> Bool {
        let links = (try? LinkGraph(plan.values(LinkResource.self)).waiting { _ in false }) ?? []
        return { key in key.split(separator: "/").contains { links.contains(String($0)) } }
    }

    private func path(_ key: String) -> String { "/proc/sys/\(key)" }

    /// The current value; nil where no sysctl has the name, as before its link has its name.
    private func value(of key: String) -> String? {
        guard let bytes = try? File(path(key), O_RDONLY).read(256, at: 0) else { return nil }
        return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    private func isSet(_ key: String, _ value: String) -> Bool {
        self.value(of: key) == value.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    func drift(from plan: Plan) -> [String] {
        let waiting = Self.waiting(plan)
        return plan.values(SysctlResource.self).filter {
            !isSet($0.key, $0.value) && (!waiting($0.key) || value(of: $0.key) != nil)
        }.map {
            "sysctl \($0.key) is \(value(of: $0.key) ?? "missing") instead of \($0.value)"
        }
    }

    /// Deletes what router advertisements left on links that no longer accept them.
    private func forgetAdvertisements(_ changed: [String]) throws {
        let links = changed.compactMap(RouterAdvertisements.link).filter { link in
            let folder = "net/ipv6/conf/\(link)"
            return switch value(of: "\(folder)/accept_ra") {
            case "0": true
            // Accepted while the box does not forward (ip-sysctl.rst of the kernel).
            case "1": value(of: "\(folder)/forwarding") != "0"
            default: false
            }
        }
        if !links.isEmpty { try advertisements.forget(Set(links)) }
    }

    /// Sets a sysctl that has another value.
    ///
    /// - Returns: whether it had another value.
    @discardableResult private func set(_ key: String, _ value: String) throws -> Bool {
        if isSet(key, value) { return false }
        try File(path(key), O_WRONLY).write(Array(value.utf8), at: 0)
        if key == "kernel/hostname" { try Self.noteHostName(value) }
        return true
    }

    /// Rewrites what PID 1 wrote at boot: programs look their own host's name up in /etc/hosts, a
    /// link to this file.
    private static func noteHostName(_ name: String) throws {
        let hosts = "/run/vcpe/hosts"
        guard let text = try? FileSystem.read(hosts) else { return }
        let lines = String(decoding: text, as: UTF8.self).split(separator: "\n").map {
            $0.hasPrefix("127.0.1.1 ") ? "127.0.1.1 \(name)" : String($0)
        }
        try FileSystem.replace(hosts, with: lines.joined(separator: "\n") + "\n")
        try FileSystem.replace("/run/vcpe/hostname", with: name + "\n")
    }

    /// Gives an existing sysctl its earlier value back.
    private func restore(_ key: String, _ value: String) throws {
        if self.value(of: key) != nil { try set(key, value) }
    }
}
