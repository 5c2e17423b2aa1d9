import Addresses
import CMnl
import Glibc

/// What changes about links that exist.
extension RouteSocket {
    private func message(
        _ index: Int, _ type: Int = Int(RTM_NEWLINK), flags: Int32 = 0, up: Bool? = nil, about subject: String
    ) -> Message {
        var body = ifinfomsg()
        body.ifi_index = Int32(truncatingIfNeeded: index)
        if let up {
            body.ifi_flags = up ? UInt32(IFF_UP) : 0
            body.ifi_change = UInt32(IFF_UP)
        }
        return Message(type, flags: flags, body, about: subject)
    }

    /// Sets a link up or down (IFF_UP).
    public func setLink(_ index: Int, isUp: Bool) throws(NetlinkError) {
        try change(message(index, up: isUp, about: "link \(index) \(isUp ? "up" : "down")"))
    }

    /// Gives a link another name: at most 15 bytes, without `/` and blanks.
    public func renameLink(_ index: Int, to name: String) throws(NetlinkError) {
        let message = message(index, about: "link \(index) to be named \(name)")
        try message.put(Int(IFLA_IFNAME), name)
        try change(message)
    }

    /// - Parameter mtu: bytes, from the link's `minimumMTU` through its `maximumMTU`; EINVAL
    ///   beyond.
    public func setLink(_ index: Int, mtu: Int) throws(NetlinkError) {
        let message = message(index, about: "link \(index) with an MTU of \(mtu)")
        try message.put(Int(IFLA_MTU), UInt32(clamping: mtu))
        try change(message)
    }

    /// Has a link use another MAC address. Some drivers refuse this while the link is up (EBUSY).
    public func setLink(_ index: Int, address: MACAddress) throws(NetlinkError) {
        let message = message(index, about: "link \(index) with the address \(address)")
        try message.put(Int(IFLA_ADDRESS), address.bytes)
        try change(message)
    }

    /// Makes a link a port of a bridge, bond or VRF, or of none.
    public func setLink(_ index: Int, master: Int?) throws(NetlinkError) {
        let message = message(index, about: "link \(index) as a port of \(master.map(String.init) ?? "nothing")")
        try message.put(Int(IFLA_MASTER), UInt32(clamping: master ?? 0))
        try change(message)
    }

    /// Changes what is particular to a link's kind, in place.
    ///
    /// Throws EOPNOTSUPP or EINVAL for what the kind cannot change (a VLAN's id, a veth's peer):
    /// the link must be made anew. A bond's mode changes only while the bond is down and has no
    /// ports.
    ///
    /// - Parameter kind: the kind that the link is of; EINVAL or EOPNOTSUPP for another.
    public func setLink(_ index: Int, kind: String, data: [LinkAttribute]) throws(NetlinkError) {
        let message = message(index, about: "the \(kind) settings of link \(index)")
        try message.nest(Int(IFLA_LINKINFO)) { () throws(NetlinkError) in
            try message.put(Int(IFLA_INFO_KIND), kind)
            try message.nest(Int(IFLA_INFO_DATA)) { () throws(NetlinkError) in try message.put(data) }
        }
        try change(message)
    }

    /// Moves a link to another network namespace; its addresses and routes go, and it is down
    /// there.
    public func setLink(_ index: Int, namespace: NamespaceReference) throws(NetlinkError) {
        let message = message(index, about: "link \(index) to another network namespace")
        try message.put(namespace)
        try change(message)
    }

    /// Gives a link a further name (RTM_NEWLINKPROP).
    public func addAlternativeName(_ name: String, to index: Int) throws(NetlinkError) {
        let message = message(
            index, Int(RTM_NEWLINKPROP), flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND,
            about: "the further name \(name) of link \(index)")
        try message.nest(Int(IFLA_PROP_LIST)) { () throws(NetlinkError) in
            try message.put(Int(IFLA_ALT_IFNAME), name)
        }
        try change(message)
    }

    /// Removes a link without a card. With a bridge, bond or VRF its ports stay; with a link below
    /// a VLAN the VLAN goes, too.
    public func deleteLink(_ index: Int) throws(NetlinkError) {
        try change(message(index, Int(RTM_DELLINK), about: "the removal of link \(index)"))
    }
}
