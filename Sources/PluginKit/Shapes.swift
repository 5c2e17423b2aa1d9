extension Shape where Value == IPAddress {
    /// An IPv4 or IPv6 address.
    public static var ipAddress: Shape {
        .scalar("an IPv4 or IPv6 address, such as 192.0.2.1 or 2001:db8::1") { IPAddress($0.text) }
    }
}

extension Shape where Value == IPPrefix {
    /// An address with the length of its network.
    public static var ipPrefix: Shape {
        .scalar("an address with its network's length, such as 192.168.1.1/24") {
            $0.text.contains("/") ? IPPrefix($0.text) : nil
        }
    }

    /// A network, or an address alone.
    public static var network: Shape {
        .scalar("an address or a network, such as 192.0.2.1 or 10.0.0.0/8, without bits beyond the length") {
            IPPrefix($0.text).flatMap { $0.isNetwork ? $0 : nil }
        }
    }
}

extension Fields {
    /// Notes lists that are there and empty: a limit that limits nothing was hardly meant.
    public func refuseEmptyLists(_ keys: [String]) {
        for key in keys {
            guard has(key), let node = node[key]?.value, case .sequence(let items) = node.value, items.isEmpty
            else { continue }
            problems.add(node, "\(path).\(key)", "an empty list", hint: "leave \(key) out where there is no limit")
        }
    }
}

extension Shape where Value == IPRange {
    /// An address, a network or a range.
    public static var addresses: Shape {
        .scalar(
            "an address, a network without bits beyond its length or a range, such as 192.0.2.1, 10.0.0.0/8 or "
                + "192.0.2.10-192.0.2.20"
        ) { IPRange($0.text) }
    }
}

extension Shape where Value == MACAddress {
    /// Six groups of two hexadecimal digits.
    public static var macAddress: Shape {
        .scalar("a MAC address, such as 02:00:00:00:00:01") { MACAddress($0.text) }
    }
}

extension Shape where Value == ClosedRange<Int> {
    /// A port, or a range of ports.
    public static var ports: Shape {
        .scalar("a port or a range of ports from 1 to 65535, such as 443 or 8000-8010") { scalar in
            if let port = Int(scalar.text), (1...65535).contains(port) { return port...port }
            let ends = scalar.text.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
            guard (1...2).contains(ends.count), let first = ends.first, let last = ends.last,
                ends.allSatisfy({ (1...65535).contains($0) }), first <= last
            else { return nil }
            return first...last
        }
    }
}

extension Shape where Value == Int {
    /// `90s`, `10m`, `4h` or `2d`, in seconds.
    public static func seconds(_ range: ClosedRange<Int>) -> Shape {
        .scalar("a time such as 90s, 10m, 4h or 2d, of \(range.lowerBound) to \(range.upperBound) seconds") { scalar in
            let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
            guard let unit = scalar.text.last.flatMap({ units[$0] }), let number = Int(scalar.text.dropLast()),
                number > 0, number <= range.upperBound, range.contains(number * unit)
            else { return nil }
            return number * unit
        }
    }

    /// A day, or a time of a day, in UTC (RFC 3339), as seconds since 1970.
    public static var time: Shape {
        .scalar("a day or a time in UTC, such as 2026-12-24 or 2026-12-24T18:00:00Z") { UTC.seconds(of: $0.text) }
    }
}

extension Shape where Value == String {
    /// A name of a thing that a site document declares.
    public static var name: Shape {
        .text("a name of lower-case letters, digits and hyphens, at most 40, starting with a letter", where: isName)
    }

    /// The name of a zone. Rules write `any` for every zone and `box` for the box itself.
    public static var zoneName: Shape {
        .text(
            "a name of lower-case letters, digits and hyphens, at most 40, starting with a letter, but neither any nor "
                + "box, which mean every zone and the box itself in rules"
        ) { isName($0) && $0 != "any" && $0 != "box" }
    }

    /// The name of an interface: it becomes a link's, which the kernel limits to 15 bytes. `all` and
    /// `default` are no links' names, since sysctls of all links have them (`dev_valid_name` and
    /// devinet.c of the kernel).
    public static var interfaceName: Shape {
        .text(
            "a name of lower-case letters, digits and hyphens, at most 12, starting with a letter, which the kernel gives "
                + "to no card itself (lo, eth0, wlan0 …) and does not keep (all, default)"
        ) { text in
            isName(text) && text.utf8.count <= 12 && !["lo", "all", "default"].contains(text)
                && !["eth", "wlan", "wwan", "usb", "ifb", "sit", "gre", "dummy"].contains { prefix in
                    text.hasPrefix(prefix) && !text.dropFirst(prefix.count).isEmpty
                        && text.dropFirst(prefix.count).allSatisfy(\.isNumber)
                }
        }
    }

    /// Those that OpenSSH takes by itself.
    private static let keyTypes = [
        "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
    ]

    /// A public key without options before it.
    public static var sshPublicKey: Shape {
        .text("a public key on one line, as ssh-keygen writes it: TYPE BASE64 COMMENT") { text in
            let words = text.split(separator: " ")
            guard words.count >= 2, keyTypes.contains(String(words[0])), !text.utf8.contains(where: { $0 < 0x20 })
            else {
                return false
            }
            return words[1].utf8.count >= 40
                && words[1].utf8.allSatisfy {
                    (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
                        || [0x2B, 0x2F, 0x3D].contains($0)
                }
        }
    }

    private static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, (0x61...0x7A).contains(first), text.utf8.count <= 40 else { return false }
        return text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D }
    }
}

extension ProblemList {
    /// Notes every name that a list of named things has twice; items without one are left out.
    ///
    /// - Parameter hint: what to do.
    public func checkUnique<Item>(
        _ items: [Located<Item>], _ what: String, hint: String = "give every one a name of its own",
        by name: (Item) -> String?
    ) {
        var seen: Set<String> = []
        for item in items {
            guard let name = name(item.value), !seen.insert(name).inserted else { continue }
            add(item.problem("the \(what) \"\(name)\" stands twice", hint: hint))
        }
    }
}
