import Glibc

extension IPAddress {
    /// Calls `body` with the address and a port as the kernel takes them (ip(7), ipv6(7)).
    public func withSocketAddress<Result>(
        port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        var storage = sockaddr_storage()
        return withUnsafeMutableBytes(of: &storage) { room in
            let base = room.baseAddress
            if family == .ipv4 {
                var value = sockaddr_in()
                value.sin_family = sa_family_t(AF_INET)
                value.sin_port = UInt16(port).bigEndian
                withUnsafeMutableBytes(of: &value.sin_addr) { $0.copyBytes(from: bytes) }
                base?.storeBytes(of: value, as: sockaddr_in.self)
            } else {
                var value = sockaddr_in6()
                value.sin6_family = sa_family_t(AF_INET6)
                value.sin6_port = UInt16(port).bigEndian
                withUnsafeMutableBytes(of: &value.sin6_addr) { $0.copyBytes(from: bytes) }
                base?.storeBytes(of: value, as: sockaddr_in6.self)
            }
            let length = family == .ipv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
            return room.withMemoryRebound(to: sockaddr.self) { pointer in
                body(UnsafePointer(pointer.baseAddress.unsafelyUnwrapped), socklen_t(length))
            }
        }
    }

    /// From what the kernel gives back.
    public init?(_ storage: sockaddr_storage) {
        let bytes = withUnsafeBytes(of: storage) { bytes in
            storage.ss_family == sa_family_t(AF_INET) ? Array(bytes[4..<8]) : Array(bytes[8..<24])
        }
        self.init(bytes)
    }
}
