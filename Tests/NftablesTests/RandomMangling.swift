import Ruleset

/// Statements and expressions beside those of a firewall: steering, classes, options, computed numbers.
extension RandomRuleset {
    /// Matches on what connections, options and computed numbers are.
    mutating func laterConditions(_ statements: inout [Statement]) {
        let comparison = pick([Statement.Comparison.equal, .notEqual, .less, .lessOrEqual, .greater, .greaterOrEqual])
        let direction = pick([nil, Selector.Direction.original, .reply])
        switch number(0...39) {
        case 0: statements.append(.match(.selector(.traffic(direction, .packets)), comparison, .number(number(1...99))))
        case 1:
            statements.append(
                .match(
                    .selector(.traffic(direction, .bytes)), pick([.equal, .notEqual]),
                    .range(.number(number(1...999)), .number(number(1000...1 << 40)))))
        case 2:
            statements.append(
                .match(.selector(.zone(direction)), pick([.equal, .notEqual]), .number(number(1...65535))))
        case 3:
            statements.append(
                .match(.selector(.tcpOption(.maximumSegmentSize, .value)), comparison, .number(number(500...9000))))
        case 4:
            statements.append(
                .match(.selector(.tcpOption(pick(TCPOption.allCases), .presence)), .equal, .number(number(0...1))))
        case 5: statements.append(.match(.selector(.routeMTU), comparison, .number(number(500...9000))))
        case 6:
            statements.append(
                .match(
                    .payload(pick([.ip, .ip6]), "dscp"), pick([.equal, .notEqual]),
                    .set(distinct(number(1...4)) { .text($0.pick(["cs1", "cs2", "af21", "ef"])) })))
        case 7:
            statements.append(
                .match(.meta(.priority), .equal, .text("\(number(1...9)):\(String(number(1...65535), radix: 16))")))
        case 8:
            // nft refuses what the number can't be.
            let generator = generator()
            let value = generator.offset + number(0...generator.modulus - 1)
            statements.append(
                .match(.numgen(generator), pick([.equal, .lessOrEqual, .greaterOrEqual]), .number(value)))
        case 9:
            let hash = hash()
            let value = hash.offset + number(0...hash.modulus - 1)
            statements.append(.match(.jhash(hash), pick([.equal, .notEqual]), .number(value)))
        default: break
        }
    }

    private mutating func generator() -> NumberGenerator {
        NumberGenerator(pick(NumberGenerator.Mode.allCases), modulus: number(2...99), offset: number(0...9))
    }

    private mutating func hash() -> JHash {
        JHash(
            chance(50) ? .payload(.ip, "saddr") : .concatenation([.payload(.ip, "saddr"), .payload(.ip, "daddr")]),
            modulus: number(2...99), seed: chance(50) ? number(1...1 << 31) : nil, offset: number(0...9))
    }

    /// What is written: at places of the packet path where the kernel takes it.
    mutating func mangled() -> Rule {
        var statements: [Statement] = []
        if chance(30) { statements.append(.match(.meta(.interface), .equal, interface())) }
        let isIPv4 = chance(60)
        switch number(0...8) {
        case 0: statements.append(.mangle(.zone(pick([nil, .original, .reply])), .number(number(1...65535))))
        case 1: statements.append(.setMark(pick([.meta(.mark), .ct(.mark)]), .jhash(hash())))
        case 2: statements.append(.setMark(pick([.meta(.mark), .ct(.mark)]), .numgen(generator())))
        case 3:
            let entries = (0..<number(2...5)).map { ValueMapEntry(.number($0), .number(number(1...1 << 31))) }
            statements.append(
                .setMark(
                    .meta(.mark), .valueMap(.numgen(NumberGenerator(.random, modulus: entries.count)), entries)))
        case 4: statements.append(.setMark(pick([.meta(.mark), .ct(.mark)]), .map(.payload(.ip, "saddr"), "marks")))
        case 5:
            statements.append(
                .mangle(.meta(.priority), .text("\(number(1...9)):\(String(number(1...65535), radix: 16))")))
        case 6:
            statements.append(
                .mangle(.payload(isIPv4 ? .ip : .ip6, "dscp"), .text(pick(["cs1", "af11", "af43", "ef", "cs7"]))))
        case 7:
            statements.append(.mangle(.tcpOption(.maximumSegmentSize, .value), .number(number(500...9000))))
        default:
            statements.append(.match(.payload(pick([.tcp, .udp]), "dport"), .equal, ports()))
            let port = chance(80) ? number(1...65535) : nil
            statements.append(
                isIPv4
                    ? .tproxy(.ip, address: port == nil || chance(50) ? ipv4() : nil, port: port)
                    : .tproxy(.ip6, address: ipv6(), port: port))
        }
        return Rule(statements, comment: chance(50) ? "steer: rules[\(number(0...99))]" : nil)
    }
}
