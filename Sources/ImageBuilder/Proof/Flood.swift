import Addresses
import CSystem
import Files
import Glibc
import Processes
import Synchronization

/// Packets that are thrown at both sides of the box from power-on, and what of them comes out on the other: nothing may
/// cross before policy stands, and from the WAN nothing ever.
final class Flood: Sendable {
    struct Counts: Sendable {
        /// Sent by each side.
        var sent: [Proof.Place: Int] = [:]
        /// Seen on the WAN as they were sent: with the LAN host's own address.
        var unmasqueraded = 0
        /// Seen on the LAN: sent by the WAN.
        var fromWAN = 0
        /// When the first packet of the LAN came out, as policy wants it: seconds of the monotonic clock.
        var firstForwarded: Double?
        /// All that came out so, when the last of them did, and the longest pause between two, in seconds.
        var forwarded = 0
        var lastForwarded = 0.0
        var longestPause = 0.0
        /// Whose address the first had.
        var source: IPAddress?
        var isOver = false
    }

    /// Nobody else's: what carries it is the flood's.
    static let port = 47_777

    private let counts = Mutex(Counts())

    var now: Counts { counts.withLock { $0 } }

    /// Starts to send and to look, until ``stop()``.
    init(_ network: ProofNetwork) throws {
        let (lan, wan) = (try network.side(.lan), try network.side(.wan))
        for (place, target) in [(Proof.Place.lan, wan.host4), (.wan, lan.host4)] {
            let socket = try ProofSocket(network.namespace(place), .ipv4, isStream: false)
            let descriptor = try network.namespace(place).run { csystem_packet_socket(place.rawValue) }
            guard descriptor >= 0 else { throw SystemError("socket(AF_PACKET)", place.rawValue) }
            let packets = File(descriptor: descriptor, path: place.rawValue)
            let lanHost = lan.host4
            start { $0.send(socket, from: place, to: target) }
            start { $0.watch(packets, at: place, lanHost: lanHost) }
        }
    }

    /// Counts pauses from here on anew.
    func forgetPauses() { counts.withLock { $0.longestPause = 0 } }

    func stop() { counts.withLock { $0.isOver = true } }

    private var isOver: Bool { counts.withLock { $0.isOver } }

    private func start(_ body: @escaping (Flood) -> Void) {
        let work = Unmanaged.passRetained(Work { [self] in body(self) })
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Work>.fromOpaque(context).takeRetainedValue().body() }
                return nil
            }, work.toOpaque())
        if failure == 0 { pthread_detach(thread) } else { work.release() }
    }

    private final class Work {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    private func send(_ socket: ProofSocket, from place: Proof.Place, to target: IPAddress) {
        while !isOver {
            if socket.send(Array("flood".utf8), to: target, port: Self.port) == 0 {
                counts.withLock { $0.sent[place, default: 0] += 1 }
            }
            usleep(2000)
        }
    }

    private func watch(_ packets: File, at place: Proof.Place, lanHost: IPAddress) {
        var buffer = [UInt8](repeating: 0, count: 2048)
        while !isOver {
            var polled = pollfd(fd: packets.descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&polled, 1, 100) > 0 else { continue }
            // PACKET_OUTGOING, what this side sent itself, has the other direction's addresses and ports: see below.
            let count = recv(packets.descriptor, &buffer, buffer.count, 0)
            // Ethernet, IPv4 without options, UDP, to the flood's port.
            guard count >= 42, buffer[12] == 8, buffer[13] == 0, buffer[14] == 0x45, buffer[23] == 17,
                Int(buffer[36]) << 8 | Int(buffer[37]) == Self.port, let source = IPAddress(buffer[26..<30])
            else { continue }
            // The sender's own copy goes to the box: its source hardware address is not the box's.
            guard Array(buffer[6..<12]).starts(with: [0x52, 0x54, 0, 0, 0]) else { continue }
            counts.withLock { counts in
                if place == .lan {
                    counts.fromWAN += 1
                } else if source == lanHost {
                    counts.unmasqueraded += 1
                } else {
                    let now = Clock.seconds
                    if counts.firstForwarded == nil { (counts.firstForwarded, counts.source) = (now, source) }
                    if counts.forwarded > 0 {
                        counts.longestPause = max(counts.longestPause, now - counts.lastForwarded)
                    }
                    counts.forwarded += 1
                    counts.lastForwarded = now
                }
            }
        }
    }
}
