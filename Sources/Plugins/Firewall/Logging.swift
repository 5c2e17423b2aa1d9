import PluginKit

/// Where packets and connections are noted: in the kernel's log, or as JSON by ulogd2, whose lines are that service's log.
struct Logging: Sendable {
    /// Packets of rules that log, and such as nobody accepts.
    var packets = false
    /// Connections that end: who, with whom, how much, from when to when.
    var sessions = false

    /// What a rule notes.
    struct Note: Sendable {
        /// At most 64 bytes; nil for one with the rule's action and name.
        var prefix: String?
        var limit: Statement.Limit

        static let usual = Note(limit: .init(rate: 10, per: .second, burst: 20))
    }

    /// nflog's.
    private static let group = 1
    private static let (folder, configuration) = ("/run/vcpe/firewall", "/run/vcpe/firewall/ulogd.conf")

    static var shape: Shape<Logging> {
        .mapping("where packets and connections are noted") { fields in
            Logging(
                packets: fields.optional("packets", .boolean) ?? false,
                sessions: fields.optional("sessions", .boolean) ?? false)
        }
    }

    /// What its keys in a rule are read as.
    struct Parts {
        let isLogged: Shape<Bool>
        let prefix: Shape<String>
        let rate: Shape<Statement.Limit>
    }

    static var note: Parts {
        Parts(
            isLogged: .boolean,
            prefix: .text("at most 64 printable characters of ASCII") { text in
                (1...64).contains(text.utf8.count) && text.utf8.allSatisfy { (0x20...0x7E).contains($0) }
            }, rate: .rate)
    }

    /// Reads `log`, `log-prefix` and `log-rate`; nil for a rule that notes nothing.
    static func read(_ parts: Parts, _ fields: inout Fields) -> Note? {
        let isLogged = fields.optional("log", parts.isLogged)
        let prefix = fields.optional("log-prefix", parts.prefix)
        let rate = fields.optional("log-rate", parts.rate)
        if isLogged != true, prefix != nil || rate != nil {
            fields.problems.add(
                fields.node, fields.path, "how it is noted, and it is not", hint: "give log: true, or leave it out")
        }
        return isLogged == true ? Note(prefix: prefix, limit: rate ?? Note.usual.limit) : nil
    }

    func statement(_ prefix: String) -> Statement {
        .log(.init(prefix: prefix, group: packets ? Self.group : nil))
    }

    func plan(_ output: inout PlanOutput) {
        guard packets || sessions else { return }
        let modules = "/usr/lib/x86_64-linux-gnu/ulogd"
        let plugins =
            ["output_JSON", "filter_IP2STR"]
            + (packets ? ["inppkt_NFLOG", "raw2packet_BASE", "filter_IFINDEX", "filter_HWHDR"] : [])
            + (sessions ? ["inpflow_NFCT"] : [])
        var lines = ["[global]", "logfile=\"/dev/stderr\"", "loglevel=5"]
        lines += plugins.map { "plugin=\"\(modules)/ulogd_\($0).so\"" }
        if packets {
            lines.append("stack=packets:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,mac2str1:HWHDR,json1:JSON")
        }
        if sessions { lines.append("stack=sessions:NFCT,ip2str2:IP2STR,json2:JSON") }
        if packets { lines += ["[packets]", "group=\(Self.group)"] }
        // Connections when they end, with what connection tracking has counted.
        if sessions { lines += ["[sessions]", "event_mask=0x4", "hash_enable=0"] }
        for name in (packets ? ["json1"] : []) + (sessions ? ["json2"] : []) {
            lines += ["[\(name)]", "sync=1", "file=\"/dev/stdout\"", "device=\"firewall\""]
        }
        output.add(
            FileResource(
                path: Self.configuration, content: lines.map { $0 + "\n" }.joined(), owner: "root", mode: 0o644))
        if sessions {
            for (key, value) in [("nf_conntrack_acct", "1"), ("nf_conntrack_timestamp", "1")] {
                output.add(SysctlResource(key: "net/netfilter/\(key)", value: value))
            }
        }
        output.add(
            ServiceResource(
                name: "firewall-log", command: ["/usr/sbin/ulogd", "--configfile", Self.configuration],
                user: "vcpe-log", capabilities: ["net_admin"], configurationFiles: [Self.configuration],
                memory: 64 << 20, class: .background, profile: .init(families: [.netlink])))
    }
}
