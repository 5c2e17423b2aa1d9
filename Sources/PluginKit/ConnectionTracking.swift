extension PlanOutput {
    /// How long the kernel's connection tracking remembers at least, in seconds: RFC 4787 and RFC 6092, section 3.2, of UDP; RFC 5382, REQ-5
    /// and RFC 6092, section 3.3, of TCP that opens or closes; RFC 5508, REQ-2, of ICMP. The kernel forgets some of it sooner by itself.
    public mutating func rememberConnections() {
        let timeouts = [
            ("tcp_timeout_syn_sent", 240), ("tcp_timeout_syn_recv", 240), ("tcp_timeout_fin_wait", 240),
            ("tcp_timeout_close_wait", 240), ("tcp_timeout_last_ack", 240), ("tcp_timeout_time_wait", 240),
            ("udp_timeout", 120), ("udp_timeout_stream", 300), ("icmp_timeout", 60),
        ]
        for (name, seconds) in timeouts {
            add(SysctlResource(key: "net/netfilter/nf_conntrack_\(name)", value: "\(seconds)"))
        }
    }
}
