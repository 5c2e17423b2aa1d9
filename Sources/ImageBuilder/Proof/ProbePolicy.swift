import Addresses

/// The probe packets that may arrive on the other side.
///
/// By default, only ICMPv6 echo requests from the WAN may reach the LAN (RFC 4890, section 4.3.1).
/// Packets from the LAN may reach the WAN; IPv4 packets need a source address of the box. Packets
/// with a foreign source address and tagged frames may never pass. A definition's proofs decide for
/// their own direction, family and protocol, see `docs/proofs.md`.
struct ProbePolicy: Sendable, Hashable {
    private let allowed: Set<ProbePacket.Mark>
    /// Addresses that must not appear on the WAN: those of the LAN.
    private let inside: IPPrefix?

    /// - Parameters:
    ///   - proofs: of the definition.
    ///   - lan: the LAN's IPv4 network; nil where its addresses need not be known.
    init(_ proofs: [Proof] = [], lan: IPPrefix? = nil) {
        let keepsSource = proofs.contains {
            $0.from == .lan && $0.to == .wan && $0.family == .ipv4 && $0.outcome == .answered && $0.sourceSeen == .lan
        }
        inside = keepsSource ? nil : lan
        var allowed: Set<ProbePacket.Mark> = []
        for origin in [Proof.Endpoint.lan, .wan] {
            for kind in ProbePacket.all where Self.mayPass(kind, from: origin, proofs) {
                allowed.insert(ProbePacket.Mark(kind: kind, origin: origin))
            }
        }
        self.allowed = allowed
    }

    /// - Parameter source: the packet's source address as it arrived.
    func isLeak(_ mark: ProbePacket.Mark, source: IPAddress?) -> Bool {
        guard allowed.contains(mark) else { return true }
        guard mark.origin == .lan, let inside, let source else { return false }
        return inside.contains(source)
    }

    private static func mayPass(_ kind: ProbePacket, from origin: Proof.Endpoint, _ proofs: [Proof]) -> Bool {
        if kind.form == .spoofed || kind.form == .vlan { return false }
        let other: Proof.Endpoint = origin == .lan ? .wan : .lan
        let matching = proofs.filter { proof in
            proof.from == origin && proof.to == other && proof.family == kind.family
                && matches(proof.probe, kind.form, port: nil)
        }
        // Echo requests have no port: any proof of them is exact.
        if let exact = matching.first(where: { matches($0.probe, kind.form, port: ProbePacket.port) }) {
            return exact.outcome == .answered
        }
        guard origin == .lan || kind == ProbePacket(form: .icmp, family: .ipv6) else { return false }
        return matching.isEmpty || matching.contains { $0.outcome == .answered }
    }

    /// Whether a proof sends packets of the same protocol; and, unless `port` is nil, to this port.
    private static func matches(_ probe: Proof.Probe, _ form: ProbePacket.Form, port: Int?) -> Bool {
        switch (probe, form) {
        case (.udp(let its), .udp), (.udp(let its), .fragments), (.tcp(let its), .tcpSyn), (.tcp(let its), .tcpAck):
            port == nil || its == port
        case (.ping, .icmp): true
        default: false
        }
    }
}
