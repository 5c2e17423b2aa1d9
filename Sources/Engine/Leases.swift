import Documents
import Files
import PluginKit

/// What DHCP servers have lent, a file an interface: whoever reports a lease writes it there, so that what comes while no
/// engine runs is not lost.
public struct Leases {
    let folder: String

    public init(places: Places = Places()) { folder = "\(places.run)/leases" }

    private func path(_ interface: String) throws -> String {
        guard !interface.isEmpty, !interface.contains("/"), !interface.hasPrefix(".") else {
            throw EngineError("\"\(interface)\" is no interface's name")
        }
        return "\(folder)/\(interface)"
    }

    /// - Parameter seconds: how long the lease holds from now on; nil for ever.
    public func note(_ lease: Facts.Lease, of interface: String, seconds: Int?) throws {
        try FileSystem.makeDirectory(folder)
        let json: JSON = [
            "leases": Facts(leases: [interface: lease]).json["leases"] ?? [:],
            "ends": seconds.map { .integer(Uptime.milliseconds + $0 * 1000) } ?? .null,
        ]
        try FileSystem.replace(try path(interface), with: json.line + "\n")
    }

    public func forget(_ interface: String) throws { try FileSystem.remove(try path(interface)) }

    /// Those that hold now, and when the next of them ends, in milliseconds of the kernel's time.
    func now() -> (leases: [String: Facts.Lease], nextEnd: Int?) {
        var (leases, nextEnd): ([String: Facts.Lease], Int?) = ([:], nil)
        for interface in (try? FileSystem.list(folder)) ?? [] where !interface.hasPrefix(".") {
            guard let bytes = try? FileSystem.read("\(folder)/\(interface)"), let json = try? JSON.parse(bytes) else {
                continue
            }
            if case .integer(let end)? = json["ends"] {
                if end <= Uptime.milliseconds { continue }
                nextEnd = min(nextEnd ?? end, end)
            }
            let facts = Node(
                ["leases": json["leases"] ?? [:]], position: .init(file: interface, line: 1, column: 1))
            leases.merge(Facts.shape.read(facts, path: "", into: ProblemList())?.leases ?? [:]) { $1 }
        }
        return (leases, nextEnd)
    }
}
