@testable import Engine
import Files
import Glibc
import Testing

/// Kernel tables that other hosts fill.
@Suite final class KernelTablesTests {
    private let proc: String

    init() throws {
        proc = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-proc")
        for name in [
            "sys/net/netfilter", "sys/net/ipv4/neigh/default", "sys/net/ipv6/neigh/default", "net/stat",
        ] { try FileSystem.makeDirectory("\(proc)/\(name)") }
        try set("sys/net/netfilter/nf_conntrack_max", 8192)
        try set("sys/net/netfilter/nf_conntrack_buckets", 8192)
        try set("sys/net/netfilter/nf_conntrack_count", 10)
        for family in ["ipv4", "ipv6"] {
            for (number, value) in [(1, 128), (2, 512), (3, 1024)] {
                try set("sys/net/\(family)/neigh/default/gc_thresh\(number)", value)
            }
        }
    }

    deinit { try? FileSystem.remove(proc) }

    private func set(_ path: String, _ value: Int) throws {
        try FileSystem.replace("\(proc)/\(path)", with: "\(value)\n")
    }

    private func value(_ path: String) throws -> String {
        String(decoding: try FileSystem.read("\(proc)/sys/\(path)"), as: UTF8.self).split(separator: "\n")
            .first.map(String.init) ?? ""
    }

    @Test func sizesDependOnTheMemoryAlone() {
        let box = TableSizes(memory: 1 << 30)
        #expect(box.connections == 65_536 && box.neighbours == 8192 && box.fragments == 4 << 20)
        #expect(box == TableSizes(memory: 1 << 30))
        let (small, large) = (TableSizes(memory: 128 << 20), TableSizes(memory: 256 << 30))
        #expect(small.connections == 16_384 && small.neighbours == 2048 && small.fragments == 1 << 20)
        #expect(large.connections == 1_048_576 && large.neighbours == 65_536 && large.fragments == 16 << 20)
        // Connections of all tables together take a small part of the memory.
        for shift in 27...38 { #expect(TableSizes(memory: 1 << shift).connections * 400 <= (1 << shift) / 20) }
    }

    @Test func tablesGetTheirSizes() throws {
        KernelTables(proc: proc, sizes: TableSizes(memory: 1 << 30)).step(0)
        #expect(try value("net/netfilter/nf_conntrack_max").hasPrefix("65536"))
        for family in ["ipv4", "ipv6"] {
            #expect(try value("net/\(family)/neigh/default/gc_thresh3").hasPrefix("8192"))
            #expect(try value("net/\(family)/neigh/default/gc_thresh2").hasPrefix("4096"))
        }
    }

    @Test func aTableThatIsNearlyFullIsReported() throws {
        let tables = KernelTables(proc: proc, sizes: TableSizes(memory: 1 << 30))
        tables.step(0)
        #expect(tables.lines.isEmpty)
        try set("sys/net/netfilter/nf_conntrack_count", 65_536 * 80 / 100 + 1)
        let title = "entries  allocs\n"
        try FileSystem.replace("\(proc)/net/stat/ndisc_cache", with: title + "00001fff  0\n00001fff  0\n")
        tables.step(1)
        #expect(tables.lines.isEmpty)
        tables.step(10_000)
        #expect(Set(tables.full.keys) == [.connections, .neighbours6] && tables.full[.connections] == 65_536)
        // It is over when there is room again, not at each connection that ends.
        try set("sys/net/netfilter/nf_conntrack_count", 65_536 * 75 / 100)
        try FileSystem.replace("\(proc)/net/stat/ndisc_cache", with: title + "00000010  0\n")
        tables.step(20_000)
        #expect(Set(tables.full.keys) == [.connections])
        try set("sys/net/netfilter/nf_conntrack_count", 65_536 * 60 / 100)
        tables.step(30_000)
        #expect(tables.lines.isEmpty)
    }
}

/// Settings of a running kernel against those of its image.
@Suite struct HardenedSettingsTests {
    @Test func whatWasChangedIsNamed() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-settings")
        defer { try? FileSystem.remove(folder) }
        try FileSystem.makeDirectory("\(folder)/proc/kernel")
        try FileSystem.replace(
            "\(folder)/conf", with: "# why\nkernel.one = 2\n-kernel.two = 0\nkernel.three = 1\n-kernel.absent = 1\n")
        for (name, value) in [("one", "2\n"), ("two", "1\n"), ("three", "\t1\n")] {
            try FileSystem.replace("\(folder)/proc/kernel/\(name)", with: value)
        }
        let settings = HardenedSettings(file: "\(folder)/conf", proc: "\(folder)/proc")
        #expect(settings.changes == [.init(key: "kernel.two", wanted: "0", found: "1")])
        try FileSystem.remove("\(folder)/conf")
        #expect(settings.changes.isEmpty)
    }
}
