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
            let ends = scalar.text.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
            guard (1...2).contains(ends.count), let first = ends.first, let last = ends.last,
                ends.allSatisfy({ (1...65535).contains($0) }), first <= last
            else { return nil }
            return first...last
        }
    }
}

extension Shape where Value == String {
    /// A name of a thing that a site document declares.
    public static var name: Shape {
        .text("a name of lower-case letters, digits and hyphens, at most 40, starting with a letter", where: isName)
    }

    /// The name of an interface: it becomes a link's, which the kernel limits to 15 bytes.
    public static var interfaceName: Shape {
        .text(
            "a name of lower-case letters, digits and hyphens, at most 12, starting with a letter, which the kernel gives "
                + "to no card itself (lo, eth0, wlan0 …)"
        ) { text in
            isName(text) && text.utf8.count <= 12 && text != "lo"
                && !["eth", "wlan", "wwan", "usb", "ifb", "sit", "gre", "dummy"].contains { prefix in
                    text.hasPrefix(prefix) && !text.dropFirst(prefix.count).isEmpty
                        && text.dropFirst(prefix.count).allSatisfy(\.isNumber)
                }
        }
    }

    private static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, (0x61...0x7A).contains(first), text.utf8.count <= 40 else { return false }
        return text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D }
    }
}

extension ProblemList {
    /// Notes every name that stands twice in a list of named things.
    public func checkUnique<Item>(_ items: [Located<Item>], _ what: String, by name: (Item) -> String) {
        var seen: Set<String> = []
        for item in items where !seen.insert(name(item.value)).inserted {
            add(
                item.problem(
                    "the \(what) \"\(name(item.value))\" stands twice", hint: "give every one a name of its own"))
        }
    }
}
