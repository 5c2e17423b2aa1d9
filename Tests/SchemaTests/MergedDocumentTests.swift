import Documents
import Schema
import Testing

/// Two owners' documents become one.
@Suite struct MergedDocumentTests {
    private static let schema = Schema(modules: [
        """
        module net {
          prefix n;
          grouping family { leaf dhcp { type boolean; } leaf-list addresses { type string; } }
          container net {
            leaf-list resolvers { type string; }
            list interfaces {
              key name;
              leaf name { type string; }
              leaf zone { type string; }
              leaf mtu { type uint16; }
              container ipv4 { uses family; }
            }
            list policies {
              key "from to";
              leaf from { type string; }
              leaf to { type string; }
              leaf action { type string; }
            }
            list routes {
              key priority;
              leaf priority { type uint32; }
              leaf via { type string; }
            }
          }
        }
        """,
        "module sys { prefix s; container sys { leaf hostname { type string; } leaf banner { type string; } } }",
    ])

    private static func merge(_ texts: String..., reserved: [String: String] = [:]) throws -> MergedDocument {
        let names = texts.count == 2 ? ["provider", "customer"] : ["provider", "reseller", "customer"]
        let nodes = try zip(texts, names).map { try YAML.read(Array($0.utf8), file: $1) }
        return MergedDocument(
            nodes[0], below: Array(nodes.dropFirst()), keys: ["net", "sys", "vault"], reserved: reserved
        ) { schema }
    }

    private static let provider = """
        net:
          resolvers: [192.0.2.53]
          interfaces:
            - {name: wan, zone: wan, ipv4: {dhcp: true}}
            - {name: lan, zone: lan}
          policies:
            - {from: lan, to: wan, action: accept}
        """

    @Test func keyedListsMergeByTheirKeysAndTheUpperValueWins() throws {
        let merged = try Self.merge(
            Self.provider,
            """
            net:
              resolvers: [198.51.100.53]
              interfaces:
                - name: guest
                  zone: guest
                - name: lan
                  mtu: 1400
                  zone: mine
              policies:
                - {from: guest, to: wan, action: accept}
                - {to: wan, from: lan, action: drop}
            sys:
              hostname: shop
            """)
        #expect(
            merged.node.yaml == """
                net:
                  resolvers: [192.0.2.53]
                  interfaces:
                    - name: wan
                      zone: wan
                      ipv4:
                        dhcp: true
                    - name: lan
                      zone: lan
                      mtu: 1400
                    - name: guest
                      zone: guest
                  policies:
                    - from: lan
                      to: wan
                      action: accept
                    - from: guest
                      to: wan
                      action: accept
                sys:
                  hostname: shop

                """)
        #expect(merged.refused.isEmpty && merged.problems.isEmpty)
        #expect(
            merged.overridden.map { "\($0.position) \($0.path)" } == [
                "customer:2:3 net.resolvers", "customer:8:7 net.interfaces[lan].zone",
                "customer:11:28 net.policies[lan wan].action",
            ])
        #expect(merged.overridden[1].message.contains("provider:5:"))
        // Each value has the place where its owner wrote it.
        #expect(
            merged.node.node(at: "net.interfaces[lan].mtu").position.description == "customer:7:12"
                && merged.node.node(at: "net.interfaces[lan].zone").position.file == "provider")
        #expect(merged.node.yamlWithOrigins.contains("      mtu: 1400  # customer:7\n"))
        #expect(merged.node.yamlWithOrigins.contains("      zone: lan  # provider:5\n"))
    }

    /// Two spellings of one value are one key (RFC 7950, section 7.8.2, and the canonical forms of
    /// its types and of RFC 6991).
    @Test func keysAreComparedByTheirCanonicalValues() throws {
        let schema = Schema(modules: [
            """
            module net {
              prefix n;
              typedef number { type uint32 { range "0..100"; } }
              typedef ip-prefix { type union { type ipv4-prefix; type ipv6-prefix; } }
              typedef ipv4-prefix { type string; }
              typedef ipv6-prefix { type string; }
              typedef ip-address { type union { type ipv4-address; type ipv6-address; } }
              typedef ipv4-address { type string; }
              typedef ipv6-address { type string; }
              typedef target { type union { type ip-prefix; type ip-address; } }
              container net {
                list routes { key "to via"; leaf to { type target; } leaf via { type ip-address; } leaf mtu { type int32; } }
                list rules { key priority; leaf priority { type number; } leaf table { type uint8; } }
                list names { key name; leaf name { type string; } leaf table { type uint8; } }
                list switches { key on; leaf on { type boolean; } leaf table { type uint8; } }
              }
            }
            """
        ])
        func merge(_ provider: String, _ customer: String) throws -> MergedDocument {
            let nodes = try zip([provider, customer], ["provider", "customer"]).map {
                try YAML.read(Array($0.utf8), file: $1)
            }
            return MergedDocument(nodes[0], below: [nodes[1]], keys: ["net"]) { schema }
        }
        func count(_ list: String, _ provider: String, _ customer: String) throws -> Int {
            let merged = try merge("net: {\(list): [{\(provider)}]}", "net: {\(list): [{\(customer)}]}")
            guard case .sequence(let items)? = merged.node.value(at: try DocumentPath("net.\(list)"))?.value else {
                return 0
            }
            return items.count
        }
        for (list, one, other) in [
            ("rules", "priority: 16", "priority: 0x10"), ("rules", "priority: 16", "priority: \"16\""),
            ("rules", "priority: 16", "priority: +16"), ("rules", "priority: 16", "priority: 0o20"),
            ("routes", "to: 10.0.0.0/8, via: 192.0.2.1", "to: 10.0.0.1/8, via: 192.0.2.1"),
            ("routes", "to: \"2001:db8::/32\", via: \"FE80::1\"", "to: \"2001:DB8:0::1/32\", via: \"fe80:0::1\""),
            ("routes", "to: 192.0.2.1, via: 192.0.2.1", "to: 192.0.2.1/32, via: 192.0.2.1"),
            ("routes", "to: \"2001:DB8::1/128\", via: 192.0.2.1", "to: \"2001:db8:0::1\", via: 192.0.2.1"),
            ("names", "name: web", "name: \"web\""), ("switches", "\"on\": true", "\"on\": \"true\""),
        ] {
            #expect(try count(list, one, other) == 1, "\(one) and \(other)")
        }
        for (list, one, other) in [
            ("rules", "priority: 16", "priority: 10"), ("names", "name: \"0x10\"", "name: \"16\""),
            ("names", "name: 10.0.0.0/8", "name: 10.0.0.1/8"), ("names", "name: Web", "name: web"),
            ("routes", "to: 10.0.0.0/8, via: 192.0.2.1", "to: 10.0.0.0/9, via: 192.0.2.1"),
            ("routes", "to: 192.0.2.0, via: 192.0.2.1", "to: 192.0.2.0/31, via: 192.0.2.1"),
        ] {
            #expect(try count(list, one, other) == 2, "\(one) and \(other)")
        }
        // A key in another spelling overrides nothing; other leaves do.
        let spelled = try merge(
            "net: {rules: [{priority: 16, table: 1}], routes: [{to: 192.0.2.1, via: 192.0.2.1}]}",
            "net: {rules: [{priority: 0x10, table: 2}], routes: [{to: 192.0.2.1/32, via: 192.0.2.1}]}")
        #expect(spelled.overridden.map(\.path) == ["net.rules[16].table"])
        // A lock may spell the key in another way, too.
        let locked = try merge(
            "locks: ['net.rules[0x10]', 'net.routes[10.0.0.1/8 192.0.2.1]']\nnet: {}\n",
            "net: {rules: [{priority: 16, table: 1}], routes: [{to: 10.0.0.0/8, via: 192.0.2.1}]}")
        #expect(locked.refused.count == 2 && locked.problems.isEmpty, "\(locked.problems) \(locked.refused)")
    }

    @Test func oneDocumentIsLeftAsItIs() throws {
        let node = try YAML.read(Array(Self.provider.utf8), file: "site.yaml")
        let merged = MergedDocument(node, keys: []) {
            Issue.record("the schema was read")
            return Self.schema
        }
        #expect(merged.node == node)
        // Its locks are not a plugin's.
        let locked = try Self.merge("locks: [sys]\n" + Self.provider, "")
        #expect(locked.node.canonical == node.canonical && locked.problems.isEmpty)
    }

    @Test func whatIsLockedIsRefusedWithItsPlace() throws {
        let merged = try Self.merge(
            "locks: [net.policies, 'net.interfaces[wan]', 'net.routes[7]', sys]\n" + Self.provider,
            """
            net:
              policies: [{from: guest, to: wan, action: accept}]
              interfaces:
                - {name: wan, mtu: 9000}
                - {name: lan, mtu: 1400}
              routes:
                - {priority: 007, via: here}
                - {priority: 8, via: there}
            sys: {hostname: shop}
            vault: {key: 1}
            """)
        #expect(
            merged.refused.map { "\($0.position) \($0.path)" } == [
                "customer:2:3 net.policies", "customer:4:7 net.interfaces[wan]", "customer:7:7 net.routes[7]",
                "customer:9:1 sys",
            ])
        #expect(merged.refused[0].message.contains("provider:1:9"), "\(merged.refused[0])")
        #expect(try merged.node.value(at: DocumentPath("sys")) == nil)
        #expect(try merged.node.value(at: DocumentPath("net.interfaces[wan].mtu")) == nil)
        #expect(merged.node.node(at: "net.interfaces[lan].mtu").summary == "\"1400\"")
        #expect(try merged.node.value(at: DocumentPath("net.routes"))?.canonical.contains("there") == true)
    }

    /// An item that stands twice could change what the upper document says of it.
    @Test func anItemTwiceIsNoWayAroundTheUpperDocument() throws {
        let merged = try Self.merge(
            Self.provider, "net: {interfaces: [{name: wan, mtu: 1400}, {name: wan, zone: other}]}")
        #expect(merged.refused.map(\.path) == ["net.interfaces[1]"])
        #expect(!merged.node.canonical.contains("other"))
    }

    @Test func aLockThatMatchesNothingIsAnError() throws {
        for (lock, hint) in [
            ("nett.policies", "did you mean net?"), ("net.polices", "did you mean policies?"),
            ("net.resolvers[0]", "lock it as a whole"), ("vault.key", "lock vault as a whole"), ("net..x", "such as"),
            ("net.interfaces.zone", "an item by its key"), ("net.interfaces[0]", "in brackets, once"),
            ("net.policies[lan]", "blanks between"), ("net.interfaces[wan][lan]", "in brackets, once"),
        ] {
            let problems = try Self.merge("locks: ['\(lock)']", "").problems
            #expect(problems.count == 1 && problems[0].position.description == "provider:1:9", "\(problems)")
            #expect(problems.first?.hint?.contains(hint) == true, "\(problems)")
        }
        #expect(try Self.merge("locks: {a: b}", "").problems.count == 1)
        // The lowest document has none below it; one between may lock.
        #expect(try Self.merge("", "locks: [net]").problems.map(\.path) == ["locks"])
        #expect(try Self.merge("", "5").problems.map(\.path) == [""])
        let three = try Self.merge("", "locks: [sys.hostname]", "sys: {hostname: a, banner: b}")
        #expect(three.problems.isEmpty && three.refused.map(\.path) == ["sys.hostname"])
        #expect(three.node.canonical == "{\"sys\":{\"banner\":p\"b\"}}")
    }

    @Test func pathsThatPluginsReserveAreTheFirstDocuments() throws {
        let reserved = ["sys.banner": "only the provider"]
        let merged = try Self.merge("sys: {banner: a}", "sys: {banner: b, hostname: c}", reserved: reserved)
        #expect(merged.node.canonical == "{\"sys\":{\"banner\":p\"a\",\"hostname\":p\"c\"}}")
        #expect(merged.refused.map(\.path) == ["sys.banner"])
    }

    // MARK: - Properties

    /// Random documents of the module, with values of wrong shapes among them.
    private struct Documents {
        var random: SplitMix

        mutating func pick<T>(_ items: [T]) -> T { items[Int(random.next() % UInt64(items.count))] }

        mutating func scalar() -> String { pick(["a", "b", "7", "007", "~", "true", "''", "\"7\""]) }

        mutating func item() -> String {
            let fields = ["name", "zone", "mtu", "from", "to", "action", "priority", "via"]
            let some = fields.filter { _ in random.next() % 2 == 0 }
            return "{" + some.map { "\($0): \(scalar())" }.joined(separator: ", ") + "}"
        }

        mutating func value(_ depth: Int) -> String {
            switch random.next() % 8 {
            case 0: return scalar()
            case 1: return "[]"
            case 2: return "{}"
            case 3: return "[\(scalar()), \(scalar())]"
            case 4...5: return "[" + (0..<Int(random.next() % 4)).map { _ in item() }.joined(separator: ", ") + "]"
            default: return depth > 2 ? scalar() : mapping(["ipv4", "dhcp", "interfaces", "name"], depth + 1)
            }
        }

        mutating func mapping(_ keys: [String], _ depth: Int) -> String {
            let some = keys.filter { _ in random.next() % 3 > 0 }
            return "{" + some.map { "\($0): \(value(depth))" }.joined(separator: ", ") + "}"
        }

        mutating func document() -> String {
            let net = mapping(["resolvers", "interfaces", "policies", "routes"], 0)
            return
                "{net: \(pick([net, net, net, value(0)])), sys: \(mapping(["hostname", "banner"], 1)), vault: \(value(1))}"
        }
    }

    struct SplitMix {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
    }

    /// Whatever a customer writes: a locked path has the value that the provider gave it, every
    /// value of the provider stays, and the same documents give the same result.
    @Test func noCustomerChangesWhatIsLocked() throws {
        let paths = [
            "net.policies", "net.interfaces[a]", "net.interfaces[b].zone", "net.routes[7]", "sys.hostname", "vault",
            "net",
        ]
        var refused = 0
        for seed in 0..<4000 {
            var documents = Documents(random: SplitMix(state: UInt64(seed)))
            let (provider, customer) = (documents.document(), documents.document())
            let locked = paths.filter { _ in documents.random.next() % 3 == 0 }
            let locks = locked.map { "'\($0)'" }.joined(separator: ", ")
            let upper = try YAML.read(Array(provider.utf8), file: "provider")
            let whole = "{locks: [\(locks)], \(provider.dropFirst())"
            let merged = try Self.merge(whole, customer)
            #expect(merged.problems.isEmpty)
            refused += merged.refused.count
            for path in locked where !path.contains("[") {
                let path = try DocumentPath(path)
                #expect(
                    merged.node.value(at: path)?.canonical == upper.value(at: path)?.canonical,
                    "seed \(seed): \(path)\n\(whole)\n\(customer)\n\(merged.node.yaml)")
            }
            for (path, key) in [("net.interfaces[a]", "a"), ("net.interfaces[b].zone", "b")] where locked.contains(path)
            {
                let isLeaf = path.hasSuffix("zone")
                #expect(
                    Self.items(merged.node, "interfaces", "name", key, isLeaf ? "zone" : nil)
                        == Self.items(upper, "interfaces", "name", key, isLeaf ? "zone" : nil),
                    "seed \(seed): \(path)\n\(whole)\n\(customer)\n\(merged.node.yaml)")
            }
            if locked.contains("net.routes[7]") {
                #expect(
                    Self.items(merged.node, "routes", "priority", "7", nil)
                        == Self.items(upper, "routes", "priority", "7", nil),
                    "seed \(seed)\n\(whole)\n\(customer)\n\(merged.node.yaml)")
            }
            #expect(
                Self.keeps(merged.node, upper), "seed \(seed)\n\(whole)\n\(customer)\n\(merged.node.yaml)")
            let again = try Self.merge(whole, customer)
            #expect(again.node == merged.node && again.refused == merged.refused)
            #expect(again.overridden == merged.overridden)
            // What has been merged has nothing more to take from the same document.
            let twice = try Self.merge(merged.node.yaml, "{}")
            #expect(twice.node.canonical == merged.node.canonical)
        }
        #expect(refused > 1000)
    }

    /// The items of a list that a plugin would take for one, or a leaf of each.
    private static func items(_ node: Node, _ list: String, _ key: String, _ value: String, _ leaf: String?) -> [String]
    {
        guard let net = node["net"]?.value, case .sequence(let items)? = net[list]?.value.value else { return [] }
        return items.filter { item in
            guard case .scalar(let scalar)? = item[key]?.value.value else { return false }
            return scalar.text == value || scalar.isPlain && Int(scalar.text) != nil && Int(scalar.text) == Int(value)
        }.compactMap { item in
            guard let leaf else { return item.canonical }
            return item[leaf]?.value.canonical
        }
    }

    /// Whether all that the upper document sets stands in the result.
    private static func keeps(_ merged: Node, _ upper: Node) -> Bool {
        switch (merged.value, upper.value) {
        case (_, .scalar) where upper.isNull: true
        case (.mapping, .mapping(let entries)):
            entries.allSatisfy { entry in merged[entry.key].map { keeps($0.value, entry.value) } ?? false }
        case (.sequence(let all), .sequence(let items)): zip(all, items).allSatisfy(keeps) && all.count >= items.count
        default: merged.canonical == upper.canonical
        }
    }
}
