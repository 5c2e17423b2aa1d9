import Documents
import Ruleset
import TestSupport
import Testing

/// Statements as libnftables' JSON.
@Suite struct StatementJSONTests {
    @Test(arguments: StatementCase.all + StatementCase.queues)
    func jsonSurvives(_ item: StatementCase) throws {
        let json = try JSON.parse(item.text).list ?? []
        #expect(!json.isEmpty)
        for statement in json { #expect(try Statement(statement).json == statement) }
        // Equal values are equal, and no statement equals one of another kind.
        let rule = try item.rule()
        #expect(try item.rule() == rule && item.rule().hashValue == rule.hashValue)
        #expect(rule != Rule([.notrack, .notrack]))
    }

    @Test(arguments: [
        (#"{"queue":{"num":70000}}"#, "the number of this queue", "0 to 65535"),
        (#"{"queue":{"num":3,"flags":"fanout"}}"#, "fanout to a single queue", "a range of queues"),
        (#"{"queue":{"num":3,"flags":"x"}}"#, "\"x\" as a flag of queue", "bypass, fanout"),
        (#"{"tproxy":{"family":"ip"}}"#, "tproxy to nothing", "addr, port"),
        (#"{"tproxy":{"family":"x","port":1}}"#, "this family of tproxy", "ip, ip6"),
        (#"{"tproxy":{"addr":"127.0.0.1","port":1}}"#, "this address of tproxy", "with its family"),
        (#"{"tproxy":{"port":0}}"#, "this port of tproxy", "1 to 65535"),
        (#"{"mangle":{"key":{"meta":{"key":"iifname"}},"value":1}}"#, "writing {", "meta mark, meta priority"),
        (#"{"mangle":{"key":{"meta":{"key":"mark"}}}}"#, "mangle without key or value", ""),
        (#"{"dup":{"dev":"lo"}}"#, "this dup", "addr"), (#"{"fwd":{"addr":"10.0.0.1"}}"#, "fwd without a link", "dev"),
        (#"{"fwd":{"dev":"lo","addr":"10.0.0.1"}}"#, "this neighbour of fwd", "family ip or ip6"),
        (
            #"{"match":{"op":"==","left":{"tcp option":{"name":"x"}},"right":true}}"#, "this option of tcp",
            "maxseg, window, sack-perm"
        ),
        (
            #"{"match":{"op":"==","left":{"tcp option":{"name":"maxseg","field":"x"}},"right":1}}"#,
            "this field of the option maxseg", "size"
        ), (#"{"match":{"op":"==","left":{"rt":{"key":"x"}},"right":1}}"#, "this rt key", "mtu"),
        (#"{"match":{"op":"==","left":{"ct":{"key":"avgpkt"}},"right":1}}"#, "this ct key", "zone, packets, bytes"),
        (#"{"match":{"op":"==","left":{"ct":{"key":"zone","dir":"x"}},"right":1}}"#, "this direction", "original"),
        (
            #"{"match":{"op":"==","left":{"numgen":{"mode":"x","mod":1}},"right":1}}"#, "this mode of numgen",
            "inc, random"
        ), (#"{"match":{"op":"==","left":{"numgen":{"mode":"inc","mod":0}},"right":1}}"#, "this mod", "1 to"),
        (#"{"match":{"op":"==","left":{"jhash":{"mod":2}},"right":1}}"#, "jhash without expr", ""),
        (
            #"{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"map":{"key":{"meta":{"key":"mark"}},"data":1}}}}"#,
            "this map", "a named map"
        ), (#"{"quota":{"val":1}}"#, "the statement \"quota\"", "queue"),
    ])
    func invalidJSONIsRefusedWithWhatIsAllowed(text: String, what: String, allowed: String) {
        #expect { _ = try Statement(try .parse(text)) } throws: {
            "\($0)".hasPrefix(what) && "\($0)".contains(allowed) && "\($0)".contains("is not supported: ")
        }
    }
}
