import Documents
import Ruleset

/// One rule for each kind of statement and expression, in libnftables' JSON as this model writes it.
public struct StatementCase: CustomStringConvertible, Sendable {
    public var name: String
    /// The list `expr` of a rule.
    public var text: String
    var hook = Hook(.filter, .forward, priority: 0)
    var family = TableFamily.inet

    public var description: String { name }

    public func rule() throws -> Rule { try Rule(.object(["expr": .list(try JSON.parse(text).list ?? [])])) }

    /// A table with that rule, and with the sets and objects that rules of cases refer to.
    public func table() throws -> TableContents {
        var contents = TableContents(chains: [Chain("other"), Chain("c", hook: hook, rules: [try rule()])])
        contents.family = family
        guard family == .inet else { return contents }
        contents.sets = [
            NamedSet("addresses", key: [.ipv4Address]),
            NamedSet(
                "marks", key: [.ipv4Address], content: .values([.mark]),
                elements: [SetElement(.text("10.0.0.1"), .data(.number(7)))]),
            NamedSet(
                "classes", key: [.mark], content: .values([.trafficClass]),
                elements: [SetElement(.number(7), .data(.text("1:10")))]),
            NamedSet("verdicts", key: [.interfaceName], content: .verdicts),
            NamedSet("seen", key: [.ipv4Address], flags: [.dynamic, .timeout], timeout: 60, size: 100),
        ]
        contents.counters = [NamedCounter("counted")]
        return contents
    }

    private static func mangle(_ key: String, _ value: String) -> String {
        #"[{"mangle":{"key":\#(key),"value":\#(value)}}]"#
    }
    private static func match(_ left: String, _ right: String, _ comparison: String = "==") -> String {
        #"[{"match":{"op":"\#(comparison)","left":\#(left),"right":\#(right)}}]"#
    }
    private static let source = #"{"payload":{"protocol":"ip","field":"saddr"}}"#
    private static let dscp4 = #"{"payload":{"protocol":"ip","field":"dscp"}}"#
    private static let dscp6 = #"{"payload":{"protocol":"ip6","field":"dscp"}}"#
    private static let mss = #"{"tcp option":{"name":"maxseg","field":"size"}}"#
    private static let mark = #"{"meta":{"key":"mark"}}"#
    private static let isTCP = #"{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}}"#
    private static let prerouting = Hook(.filter, .prerouting, priority: -150)
    private static let increment = #"{"numgen":{"mode":"inc","mod":2,"offset":0}}"#
    private static let ingress = Hook(.filter, .ingress, priority: 0, device: "lo")

    /// Those that this kernel and nft load, to be compared.
    public static let all: [StatementCase] = [
        .init(name: "verdict", text: #"[{"jump":{"target":"other"}}]"#),
        .init(name: "counter", text: #"[{"counter":"counted"},{"drop":null}]"#),
        .init(name: "limit", text: #"[{"limit":{"rate":5,"per":"minute","burst":3,"inv":true}},{"drop":null}]"#),
        .init(name: "log", text: #"[{"log":{"prefix":"x: ","group":3}}]"#),
        .init(name: "reject", text: #"[{"reject":{"type":"icmpx","expr":"admin-prohibited"}}]"#),
        .init(
            name: "masquerade", text: #"[{"masquerade":null}]"#, hook: Hook(.nat, .postrouting, priority: 100)),
        .init(
            name: "dnat", text: #"[{"dnat":{"family":"ip","addr":"10.0.0.1"}}]"#,
            hook: Hook(.nat, .prerouting, priority: -100)),
        .init(
            name: "dnat by numgen",
            text:
                #"[{"dnat":{"family":"ip","addr":{"map":{"key":\#(increment),"data":{"set":[[0,"10.0.0.1"],[1,"10.0.0.2"]]}}}}}]"#,
            hook: Hook(.nat, .prerouting, priority: -100)),
        .init(name: "notrack", text: #"[{"notrack":null}]"#, hook: Hook(.filter, .prerouting, priority: -300)),
        .init(name: "set", text: #"[{"set":{"op":"update","elem":\#(source),"set":"@seen"}}]"#),
        .init(
            name: "synproxy",
            text: #"[\#(isTCP),{"synproxy":{"mss":1400,"wscale":7,"flags":["timestamp","sack-perm"]}}]"#,
            hook: Hook(.filter, .input, priority: 0)),
        .init(
            name: "tproxy to an address",
            text: #"[\#(isTCP),{"tproxy":{"family":"ip","addr":"127.0.0.1","port":8080}}]"#,
            hook: prerouting),
        .init(
            name: "tproxy to IPv6", text: #"[\#(isTCP),{"tproxy":{"family":"ip6","addr":"::1","port":8080}}]"#,
            hook: prerouting),
        .init(name: "tproxy to a port", text: #"[\#(isTCP),{"tproxy":{"port":8080}}]"#, hook: prerouting),
        .init(
            name: "tproxy to an address alone", text: #"[\#(isTCP),{"tproxy":{"family":"ip","addr":"127.0.0.1"}}]"#,
            hook: prerouting),
        .init(name: "maxseg from the route", text: mangle(mss, #"{"rt":{"key":"mtu"}}"#)),
        .init(name: "maxseg constant", text: mangle(mss, "1400")),
        .init(name: "maxseg over", text: match(mss, "1400", ">")),
        .init(name: "maxseg range", text: match(mss, #"{"range":[1000,1500]}"#)),
        .init(name: "maxseg not in a range", text: match(mss, #"{"range":[1000,1500]}"#, "!=")),
        .init(name: "option is there", text: match(#"{"tcp option":{"name":"maxseg"}}"#, "true")),
        .init(name: "option is missing", text: match(#"{"tcp option":{"name":"sack-perm"}}"#, "false")),
        .init(name: "window scale", text: match(#"{"tcp option":{"name":"window","field":"count"}}"#, "3")),
        .init(name: "route mtu", text: match(#"{"rt":{"key":"mtu"}}"#, "1400", ">")),
        .init(name: "priority", text: mangle(#"{"meta":{"key":"priority"}}"#, #""1:10""#)),
        .init(
            name: "priority from a map",
            text: mangle(#"{"meta":{"key":"priority"}}"#, #"{"map":{"key":\#(mark),"data":"@classes"}}"#)),
        .init(name: "priority match", text: match(#"{"meta":{"key":"priority"}}"#, #""1:10""#)),
        .init(name: "ip dscp set", text: mangle(dscp4, #""cs1""#)),
        .init(name: "ip6 dscp set", text: mangle(dscp6, #""ef""#)),
        .init(name: "ip6 dscp set across bytes", text: mangle(dscp6, #""cs1""#)),
        .init(name: "ip dscp", text: match(dscp4, #""af21""#)),
        .init(name: "ip6 dscp", text: match(dscp6, #""ef""#, "!=")),
        .init(name: "ip dscp of several", text: match(dscp4, #"{"set":["cs1","cs2"]}"#)),
        .init(name: "ip6 dscp of several", text: match(dscp6, #"{"set":["cs1","ef"]}"#, "!=")),
        .init(
            name: "verdict by dscp", text: #"[{"vmap":{"key":\#(dscp4),"data":{"set":[["cs1",{"accept":null}]]}}}]"#),
        .init(
            name: "mark by dscp",
            // Of IPv6, nft 1.1 makes other instructions than before, which it can't read itself.
            text: mangle(mark, #"{"map":{"key":\#(dscp4),"data":{"set":[["cs1",1],["ef",2]]}}}"#)),
        .init(
            name: "ct zone set", text: mangle(#"{"ct":{"key":"zone"}}"#, "5"),
            hook: Hook(.filter, .prerouting, priority: -300)),
        .init(
            name: "ct zone set of a direction", text: mangle(#"{"ct":{"key":"zone","dir":"original"}}"#, "5"),
            hook: Hook(.filter, .prerouting, priority: -300)),
        .init(
            name: "ct zone by interface",
            text: mangle(
                #"{"ct":{"key":"zone"}}"#,
                #"{"map":{"key":{"meta":{"key":"iifname"}},"data":{"set":[["lo",1],["eth0",2]]}}}"#),
            hook: Hook(.filter, .prerouting, priority: -300)),
        .init(name: "ct zone", text: match(#"{"ct":{"key":"zone"}}"#, "5")),
        .init(name: "ct zone of a direction", text: match(#"{"ct":{"key":"zone","dir":"reply"}}"#, "5", "!=")),
        .init(name: "ct packets", text: match(#"{"ct":{"key":"packets"}}"#, "10", ">")),
        .init(
            name: "ct packets of a direction", text: match(#"{"ct":{"key":"packets","dir":"original"}}"#, "10", "<=")),
        .init(name: "ct bytes", text: match(#"{"ct":{"key":"bytes"}}"#, "1000000", ">=")),
        .init(name: "ct bytes range", text: match(#"{"ct":{"key":"bytes","dir":"reply"}}"#, #"{"range":[10,20]}"#)),
        .init(
            name: "ct bytes not in a range", text: match(#"{"ct":{"key":"bytes"}}"#, #"{"range":[10,20]}"#, "!=")),
        .init(name: "mark range", text: match(mark, #"{"range":[1,9]}"#)),
        .init(name: "jhash", text: mangle(mark, #"{"jhash":{"mod":4,"expr":\#(source)}}"#)),
        .init(
            name: "jhash of several",
            text: mangle(
                mark,
                #"{"jhash":{"mod":4,"seed":4660,"offset":100,"expr":{"concat":[\#(source),{"payload":{"protocol":"tcp","field":"dport"}}]}}}"#
            )),
        .init(name: "jhash match", text: match(#"{"jhash":{"mod":4,"seed":1,"expr":\#(source)}}"#, "2")),
        .init(name: "numgen", text: mangle(mark, #"{"numgen":{"mode":"inc","mod":3,"offset":10}}"#)),
        .init(
            name: "numgen with a map",
            text: mangle(
                mark,
                #"{"map":{"key":{"numgen":{"mode":"random","mod":3,"offset":0}},"data":{"set":[[0,1],[1,7],[2,9]]}}}"#)),
        .init(name: "numgen match", text: match(#"{"numgen":{"mode":"random","mod":100,"offset":0}}"#, "20", "<")),
        .init(
            name: "verdict by numgen",
            text: #"[{"vmap":{"key":\#(increment),"data":{"set":[[0,{"accept":null}],[1,{"drop":null}]]}}}]"#),
        .init(name: "mark from a map", text: mangle(mark, #"{"map":{"key":\#(source),"data":"@marks"}}"#)),
        .init(
            name: "ct mark from a map",
            text: mangle(#"{"ct":{"key":"mark"}}"#, #"{"map":{"key":\#(source),"data":"@marks"}}"#)),
        .init(
            name: "dup to a gateway", text: #"[{"dup":{"addr":"10.0.0.1","dev":"lo"}}]"#, hook: prerouting, family: .ip),
        .init(name: "dup to an IPv6 gateway", text: #"[{"dup":{"addr":"fd00::1"}}]"#, hook: prerouting, family: .ip6),
        .init(name: "dup to a link", text: #"[{"dup":{"addr":"lo"}}]"#, hook: ingress, family: .netdev),
        .init(name: "fwd", text: #"[{"fwd":{"dev":"lo"}}]"#, hook: ingress, family: .netdev),
        .init(
            name: "fwd to a neighbour", text: #"[{"fwd":{"dev":"lo","family":"ip","addr":"10.0.0.1"}}]"#, hook: ingress,
            family: .netdev),
        .init(
            name: "route at output", text: mangle(mark, "5"), hook: Hook(.route, .output, priority: -150)),
    ]

    /// Not every kernel has them (`CONFIG_NFT_QUEUE`).
    public static let queues: [StatementCase] = [
        .init(name: "queue", text: #"[{"queue":{"num":3}}]"#),
        .init(name: "queue with bypass", text: #"[{"queue":{"num":3,"flags":"bypass"}}]"#),
        .init(
            name: "queues with fanout", text: #"[{"queue":{"num":{"range":[1,4]},"flags":["bypass","fanout"]}}]"#),
        .init(name: "queue by numgen", text: #"[{"queue":{"num":\#(increment),"flags":"bypass"}}]"#),
        .init(name: "queue by jhash", text: #"[{"queue":{"num":{"jhash":{"mod":4,"offset":2,"expr":\#(source)}}}}]"#),
    ]
}
