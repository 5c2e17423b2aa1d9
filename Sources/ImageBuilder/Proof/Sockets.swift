import Addresses
import Files
import Glibc
import Processes

/// A socket in a side's network namespace. Any thread can use it.
final class ProofSocket {
    let descriptor: Int32

    /// - Throws: ``SystemError`` of socket(2).
    init(_ namespace: NetworkNamespace, _ family: IPAddress.Family, isStream: Bool) throws {
        descriptor = try namespace.run {
            let kind = isStream ? SOCK_STREAM : SOCK_DGRAM
            let descriptor = socket(
                family.number, Int32(kind.rawValue) | Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
            guard descriptor >= 0 else { throw SystemError("socket", "") }
            return descriptor
        }
    }

    private init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// Binds the socket; on request, it also listens.
    func bind(_ address: IPAddress, port: Int, listen isListening: Bool) throws {
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        guard address.withSocketAddress(port: port, { Glibc.bind(descriptor, $0, $1) }) == 0 else {
            throw SystemError("bind", "\(address) port \(port)")
        }
        if isListening, listen(descriptor, 16) != 0 { throw SystemError("listen", "\(address) port \(port)") }
    }

    /// Begins to connect. Returns an errno; 0 when it is connected or still connecting.
    func connect(_ address: IPAddress, port: Int) -> Int32 {
        address.withSocketAddress(port: port) { Glibc.connect(descriptor, $0, $1) } == 0 || errno == EINPROGRESS
            ? 0 : errno
    }

    /// Waits until the socket is readable or, on request, writable. False after `seconds`.
    func wait(seconds: Double, writing: Bool = false) -> Bool {
        var polled = pollfd(fd: descriptor, events: Int16(writing ? POLLOUT : POLLIN), revents: 0)
        return poll(&polled, 1, Int32(seconds * 1000)) > 0
    }

    /// The pending error (SO_ERROR), which this call clears.
    func pendingError() -> Int32 {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
        return code
    }

    /// Accepts a connection; with the peer's address.
    func accept() -> (socket: ProofSocket, peer: IPAddress?)? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let connection = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.accept(descriptor, $0, &length) }
        }
        return connection < 0 ? nil : (ProofSocket(descriptor: connection), IPAddress(storage))
    }

    func send(_ bytes: [UInt8]) -> Int32 {
        Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count ? 0 : errno
    }

    func send(_ bytes: [UInt8], to address: IPAddress, port: Int) -> Int32 {
        address.withSocketAddress(port: port) { sendto(descriptor, bytes, bytes.count, 0, $0, $1) } == bytes.count
            ? 0 : errno
    }

    /// The received bytes and the peer's address and port; or the errno.
    func receive() -> (bytes: [UInt8], peer: IPAddress?, port: Int, error: Int32) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(descriptor, &buffer, buffer.count, 0, $0, &length)
            }
        }
        guard count >= 0 else { return ([], nil, 0, errno) }
        let port = withUnsafeBytes(of: storage) { Int($0[2]) << 8 | Int($0[3]) }
        return (Array(buffer[..<count]), IPAddress(storage), port, 0)
    }

    /// Restricts the socket to one link, and allows broadcasts.
    func bindToLink(_ name: String) {
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_BROADCAST, &on, socklen_t(MemoryLayout<Int32>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, name, socklen_t(name.utf8.count + 1))
    }
}
