import Files
import Glibc

/// Sizes of kernel tables that other hosts fill: connections, neighbours and fragments. They depend
/// on the box's memory alone, so that boxes of one kind are alike.
struct TableSizes: Hashable {
    /// Entries of connection tracking, some 400 bytes each.
    let connections: Int
    /// Entries of the neighbour tables, of IPv4 and IPv6 each.
    let neighbours: Int
    /// Bytes of fragments that wait for others, of IPv4 and IPv6 each.
    let fragments: Int

    /// - Parameter memory: bytes.
    init(memory: Int) {
        func bounded(_ value: Int, _ range: ClosedRange<Int>) -> Int {
            min(max(value, range.lowerBound), range.upperBound)
        }
        // A box of 1 GiB: 65,536 connections, 8192 neighbours, 4 MiB.
        connections = bounded(memory >> 14, 16_384...1_048_576)
        neighbours = bounded(memory >> 17, 2048...65_536)
        fragments = bounded(memory >> 8, 1 << 20...16 << 20)
    }

    /// Of this box. The kernel keeps a part of the memory for itself, which differs with its
    /// version.
    static var own: TableSizes {
        let (step, memory) = (64 << 20, Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE))))
        return TableSizes(memory: (memory + step - 1) / step * step)
    }

    /// Keys below /proc/sys, in the order in which they are written: an upper bound may not be
    /// below its lower one at any time.
    var sysctls: [(key: String, value: Int)] {
        var all = [
            ("net/netfilter/nf_conntrack_buckets", connections / 2), ("net/netfilter/nf_conntrack_max", connections),
        ]
        for family in ["ipv4", "ipv6"] {
            let folder = "net/\(family)/neigh/default"
            // Below the first, nothing is ever removed; beyond the last, nothing is added.
            all += [
                ("\(folder)/gc_thresh3", neighbours), ("\(folder)/gc_thresh2", neighbours / 2),
                ("\(folder)/gc_thresh1", neighbours / 8),
            ]
        }
        for name in ["net/ipv4/ipfrag", "net/ipv6/ip6frag", "net/netfilter/nf_conntrack_frag6"] {
            all += [
                ("\(name)_low_thresh", 0), ("\(name)_high_thresh", fragments),
                ("\(name)_low_thresh", fragments / 4 * 3),
            ]
        }
        return all
    }
}

/// The kernel tables of the box: has them sized, and knows which of them are nearly full.
final class KernelTables {
    /// A table that is nearly full.
    enum Table: String, CaseIterable {
        case connections
        case neighbours4 = "IPv4 neighbours"
        case neighbours6 = "IPv6 neighbours"
    }

    private let proc: String
    private let sizes: TableSizes
    /// Those that are at 80 % of their size, or were and are not below 70 % again: with the size.
    private(set) var full: [Table: Int] = [:]
    private var next = 0
    /// Keys that were set.
    private var known: Set<String> = []

    private static let interval = 10_000
    private static let (beginning, end) = (80, 70)

    init(proc: String = "/proc", sizes: TableSizes = .own) { (self.proc, self.sizes) = (proc, sizes) }

    /// Lines for operators.
    var lines: [String] {
        full.sorted { $0.key.rawValue < $1.key.rawValue }.map { table, size in
            "\(table.rawValue): more than \(Self.beginning) % of \(size) entries are used"
        }
    }

    /// - Parameter now: milliseconds of the kernel's time.
    func step(_ now: Int) {
        guard now >= next else { return }
        next = now + Self.interval
        apply()
        for table in Table.allCases {
            guard let (used, size) = use(of: table), size > 0 else { continue }
            let percent = used * 100 / size
            if full[table] == nil, percent >= Self.beginning {
                full[table] = size
                Log.say(
                    "the table of \(table.rawValue) has \(used) of \(size) entries: "
                        + "vcpectl firewall sessions shows connections, and firewall: protection limits sources")
            } else if full[table] != nil, percent < Self.end {
                full[table] = nil
                Log.say("the table of \(table.rawValue) has \(used) of \(size) entries again")
            }
        }
    }

    /// Sets each key once, as soon as it is there: connection tracking has its own with its module.
    /// In a network namespace some belong to the host, and the kernel may refuse the memory: the
    /// old size stays.
    private func apply() {
        let new = Set(sizes.sysctls.map(\.key)).subtracting(known).filter { number("sys/\($0)") != nil }
        if new.isEmpty { return }
        for (key, value) in sizes.sysctls where new.contains(key) {
            guard let file = try? File("\(proc)/sys/\(key)", O_WRONLY) else { continue }
            try? file.write(Array("\(value)".utf8), at: 0)
        }
        known.formUnion(new)
    }

    private func use(of table: Table) -> (used: Int, size: Int)? {
        switch table {
        case .connections:
            pair(number("sys/net/netfilter/nf_conntrack_count"), number("sys/net/netfilter/nf_conntrack_max"))
        case .neighbours4: pair(entries("arp_cache"), number("sys/net/ipv4/neigh/default/gc_thresh3"))
        case .neighbours6: pair(entries("ndisc_cache"), number("sys/net/ipv6/neigh/default/gc_thresh3"))
        }
    }

    private func pair(_ used: Int?, _ size: Int?) -> (used: Int, size: Int)? {
        guard let used, let size else { return nil }
        return (used, size)
    }

    /// The first number of a file.
    private func number(_ path: String) -> Int? { words(path).first.flatMap { Int($0) } }

    /// Entries of a neighbour table: the first column of the first processor, hexadecimal, below a
    /// title.
    private func entries(_ name: String) -> Int? {
        guard let bytes = try? File("\(proc)/net/stat/\(name)").read(4096, at: 0) else { return nil }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        guard lines.count > 1 else { return nil }
        return lines[1].split(separator: " ").first.flatMap { Int($0, radix: 16) }
    }

    private func words(_ path: String) -> [Substring] {
        guard let bytes = try? File("\(proc)/\(path)").read(256, at: 0) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
    }
}
