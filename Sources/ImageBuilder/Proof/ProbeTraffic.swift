import Addresses
import CSystem
import Files
import Glibc
import Processes
import Synchronization

/// Sends probe packets of every kind to both ports of the box from power-on, and counts what
/// arrives on the other side.
///
/// An IPv4 datagram leaves each side every four milliseconds, and shows when the box forwards and
/// for how long it paused; the other kinds follow each other at the same rate. An emulated box
/// can't process more.
final class ProbeTraffic: Sendable {
    /// The counters of the packets of one kind from one side.
    struct Tally: Sendable, Hashable {
        var kind: ProbePacket
        var from: Proof.Endpoint
        /// Packets that QEMU's device took.
        var sent = 0
        /// Frames that arrived on the other side.
        var arrived = 0
        /// Of these, frames that policy does not allow.
        var leaked = 0
    }

    struct Counts: Sendable {
        /// By kind, first those that the LAN sends.
        var tallies: [Tally] = []
        /// Monotonic seconds when the first IPv4 datagram of the LAN arrived as the policy allows.
        var firstForwarded: Double?
        /// How many of them arrived, when the last one did, and the longest pause between two, in
        /// seconds.
        var forwarded = 0
        var lastForwarded = 0.0
        var longestPause = 0.0
        /// The source address of the first.
        var source: IPAddress?
        /// Frames that the observing sockets dropped for lack of memory; a leak may be among them.
        var missed = 0

        var sent: Int { tallies.reduce(0) { $0 + $1.sent } }
        var leaked: Int { tallies.reduce(0) { $0 + $1.leaked } }
        /// Leaked from the WAN into the LAN.
        var fromWAN: Int { tallies.reduce(0) { $0 + ($1.from == .wan ? $1.leaked : 0) } }
    }

    private struct State: Sendable {
        var counts = Counts()
        var isStopped = false
    }

    private let state: Mutex<State>
    private let policy: ProbePolicy
    private let sides: [Proof.Endpoint: Side]

    /// A side's packet socket, and what it sends.
    private struct Side: Sendable {
        var socket: File
        /// By their index in ``ProbePacket/all``.
        var frames: [[[UInt8]]]
    }

    var now: Counts { state.withLock { $0.counts } }

    /// Starts to send and to observe, until ``stop()``.
    ///
    /// - Parameter policy: the policy of a definition without proofs when nil.
    init(_ network: ProofNetwork, policy: ProbePolicy? = nil) throws {
        self.policy = try policy ?? ProbePolicy(lan: network.side(.lan).network4)
        var sides: [Proof.Endpoint: Side] = [:]
        var counts = Counts()
        for endpoint in [Proof.Endpoint.lan, .wan] {
            let descriptor = try network.namespace(endpoint).run { csystem_packet_socket(endpoint.rawValue) }
            guard descriptor >= 0 else { throw SystemError("socket(AF_PACKET)", endpoint.rawValue) }
            let frames = try ProbePacket.all.map { kind in
                kind.frames(from: endpoint, try network.route(from: endpoint, kind.family))
            }
            sides[endpoint] = Side(socket: File(descriptor: descriptor, path: endpoint.rawValue), frames: frames)
            counts.tallies += ProbePacket.all.map { Tally(kind: $0, from: endpoint) }
        }
        self.sides = sides
        state = Mutex(State(counts: counts))
        for endpoint in [Proof.Endpoint.lan, .wan] {
            start { $0.send(from: endpoint) }
            start { $0.observe(at: endpoint) }
        }
    }

    /// Begins a new measurement of pauses.
    func resetPauses() { state.withLock { $0.counts.longestPause = 0 } }

    func stop() { state.withLock { $0.isStopped = true } }

    private var isStopped: Bool { state.withLock { $0.isStopped } }

    // MARK: - Threads

    private func start(_ body: @escaping (ProbeTraffic) -> Void) {
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

    private static func index(_ kind: Int, from endpoint: Proof.Endpoint) -> Int {
        kind + (endpoint == .lan ? 0 : ProbePacket.all.count)
    }

    private func send(from endpoint: Proof.Endpoint) {
        guard let side = sides[endpoint], let main = ProbePacket.all.firstIndex(of: .main) else { return }
        let others = ProbePacket.all.indices.filter { $0 != main }
        // A kind with several packets, such as several sources, sends them in turn.
        var turns = [Int](repeating: 0, count: ProbePacket.all.count)
        func send(_ kind: Int) {
            var frames = side.frames[kind]
            if ProbePacket.all[kind].form != .fragments, !frames.isEmpty {
                frames = [frames[turns[kind] % frames.count]]
                turns[kind] += 1
            }
            let wasSent = frames.allSatisfy {
                Glibc.send(side.socket.descriptor, $0, $0.count, Int32(MSG_DONTWAIT)) == $0.count
            }
            guard wasSent, !frames.isEmpty else { return }
            state.withLock { $0.counts.tallies[Self.index(kind, from: endpoint)].sent += 1 }
        }
        var round = 0
        while !isStopped {
            send(main)
            send(others[round % others.count])
            round += 1
            usleep(4000)
        }
    }

    private func observe(at endpoint: Proof.Endpoint) {
        guard let socket = sides[endpoint]?.socket else { return }
        var buffer = [UInt8](repeating: 0, count: 2048)
        var lastStatistics = Clock.seconds
        while !isStopped {
            if Clock.seconds > lastStatistics + 1 {
                lastStatistics = Clock.seconds
                let missed = Self.missed(socket)
                state.withLock { $0.counts.missed += missed }
            }
            var polled = pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&polled, 1, 100) > 0 else { continue }
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(socket.descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT), $0, &length)
                }
            }
            guard count > 0, withUnsafeBytes(of: storage, { $0[Self.packetType] }) != Self.outgoing else { continue }
            let frame = buffer[..<count]
            // The box's own error messages quote what they answer.
            guard let mark = ProbePacket.Mark(in: frame), mark.origin != endpoint, !ProbePacket.isError(frame) else {
                continue
            }
            note(mark, source: ProbePacket.source(of: frame))
        }
    }

    private func note(_ mark: ProbePacket.Mark, source: IPAddress?) {
        guard let kind = ProbePacket.all.firstIndex(of: mark.kind) else { return }
        let isLeak = policy.isLeak(mark, source: source)
        state.withLock { state in
            let index = Self.index(kind, from: mark.origin)
            state.counts.tallies[index].arrived += 1
            if isLeak {
                state.counts.tallies[index].leaked += 1
            } else if mark.kind == .main, mark.origin == .lan {
                let now = Clock.seconds
                if state.counts.firstForwarded == nil {
                    (state.counts.firstForwarded, state.counts.source) = (now, source)
                } else {
                    state.counts.longestPause = max(state.counts.longestPause, now - state.counts.lastForwarded)
                }
                state.counts.forwarded += 1
                state.counts.lastForwarded = now
            }
        }
    }

    // MARK: - packet(7)

    /// The offset of `sll_pkttype` in `struct sockaddr_ll`.
    private static let packetType = 10
    /// PACKET_OUTGOING: the side's own frame.
    private static let outgoing: UInt8 = 4

    /// Frames that did not fit the socket's buffer since the last call.
    private static func missed(_ socket: File) -> Int {
        /// SOL_PACKET and PACKET_STATISTICS of linux/if_packet.h; the answer is `struct
        /// tpacket_stats`.
        let (level, option): (Int32, Int32) = (263, 6)
        var statistics: (packets: UInt32, drops: UInt32) = (0, 0)
        var length = socklen_t(MemoryLayout.size(ofValue: statistics))
        guard getsockopt(socket.descriptor, level, option, &statistics, &length) == 0 else { return 0 }
        return Int(statistics.drops)
    }
}
