import CSystem
import Documents
import Glibc
import Netlink
import PluginKit

/// Tries the plan's probes by and by, all at once and without waiting: the engine's loop asks it what to poll for.
final class Probes {
    /// How a probe is.
    struct State {
        let probe: ProbeResource
        /// Nil until it has held or failed once.
        var holds: Bool?
        /// Tries in a row that failed.
        var failures = 0
        /// Tries in a row that passed, of a probe that fails.
        fileprivate var passes = 0
        /// Why the last one failed.
        var reason: String?
        /// When the next try begins, in milliseconds of the kernel's time.
        fileprivate var dueAt: Int
        fileprivate var attempt: Attempt?
        /// A change waits for its word.
        fileprivate var isUrgent = false

        init(_ probe: ProbeResource) { (self.probe, dueAt) = (probe, Uptime.milliseconds) }
    }

    private let routes: RouteSocket
    /// By name.
    private(set) var states: [String: State] = [:]

    init(routes: RouteSocket) { self.routes = routes }

    /// Follows other probes; what is known of those that stay is kept.
    func follow(_ probes: [ProbeResource]) {
        var next: [String: State] = [:]
        for probe in probes {
            next[probe.name] = states[probe.name].flatMap { $0.probe == probe ? $0 : nil } ?? State(probe)
        }
        states = next
    }

    /// Has probes be tried at once and every second, as if nothing were known of them.
    func demand(_ names: Set<String>) {
        for name in names {
            states[name]?.holds = nil
            states[name]?.failures = 0
            states[name]?.attempt = nil
            states[name]?.dueAt = Uptime.milliseconds
            states[name]?.isUrgent = true
        }
    }

    // MARK: - In the engine's loop

    /// What is waited for.
    var polled: [pollfd] {
        states.values.compactMap { $0.attempt }.map { pollfd(fd: $0.descriptor, events: $0.events, revents: 0) }
    }

    /// When something is to be done though nothing came, in milliseconds of the kernel's time.
    var due: Int? { states.values.map { $0.attempt?.deadline ?? $0.dueAt }.min() }

    /// Begins tries that are due, and takes in what came of those under way.
    func step() {
        let now = Uptime.milliseconds
        for (name, var state) in states {
            if let attempt = state.attempt {
                switch attempt.outcome() {
                case .waits where now < attempt.deadline: continue
                case .waits: take(lateness(of: state.probe, attempt.source), of: &state)
                case .held: take(nil, of: &state)
                case .failed(let reason): take(reason, of: &state)
                }
            } else if now >= state.dueAt {
                do {
                    state.attempt = try Attempt(state.probe, deadline: now + 1000 * state.probe.timeout)
                } catch {
                    take("\(error)", of: &state)
                }
            } else {
                continue
            }
            states[name] = state
        }
    }

    /// Some hosts answer no echo request and are there all the same: when they are neighbours by the way that the request took.
    ///
    /// - Parameter source: the address that the box itself used.
    private func lateness(of probe: ProbeResource, _ source: IPAddress?) -> String? {
        let late = "no answer within \(probe.timeout) s"
        guard case .ping(let address) = probe.check, let source, let addresses = try? routes.addresses(),
            let own = addresses.first(where: { $0.prefix.address == source && $0.prefix.contains(address) }),
            let neighbours = try? routes.neighbours()
        else { return late }
        let isThere = neighbours.contains { $0.address == address && $0.link == own.link && $0.isReachable }
        return isThere ? nil : late
    }

    private func take(_ reason: String?, of state: inout State) {
        let pause = state.isUrgent ? min(1, state.probe.interval) : state.probe.interval
        (state.attempt, state.dueAt, state.reason) = (nil, Uptime.milliseconds + 1000 * pause, reason)
        let before = state.holds
        if let reason {
            state.failures += 1
            state.passes = 0
            if state.failures >= state.probe.threshold { state.holds = false }
            if state.holds == false, before != false { Log.say("probe \(state.probe.name) fails: \(reason)") }
        } else {
            state.failures = 0
            state.isUrgent = false
            state.passes += 1
            if before != false || state.passes >= state.probe.rise { state.holds = true }
            if before == false, state.holds == true { Log.say("probe \(state.probe.name) passes again") }
        }
    }

    /// The state of each probe that has passed or failed.
    var facts: [String: Facts.ProbeState] {
        states.compactMapValues { $0.holds.map { Facts.ProbeState(passes: $0) } }
    }

    var json: JSON {
        .list(
            states.values.sorted { $0.probe.name < $1.probe.name }.map { state in
                .object([
                    "name": .text(state.probe.name), "what": .text(state.probe.check.words),
                    "holds": state.holds.map { .boolean($0) }, "failures": .integer(state.failures),
                    "reason": state.reason.map { .text($0) },
                ])
            })
    }
}

extension ProbeResource.Check {
    /// For people.
    var words: String {
        switch self {
        case .ping(let address): "\(address) is there"
        case .tcp(let address, let port): "\(address) port \(port) accepts connections"
        case .dns(let server, let name): "\(server) answers for \(name)"
        }
    }
}

/// One try of a probe, by a socket of its own.
private final class Attempt {
    enum Outcome {
        case waits, held
        case failed(String)
    }

    let descriptor: Int32
    let deadline: Int
    private let check: ProbeResource.Check
    /// Tells our answers from others'.
    private let number = UInt16.random(in: .min ... .max)

    var events: Int16 { if case .tcp = check { Int16(POLLOUT) } else { Int16(POLLIN) } }

    init(_ probe: ProbeResource, deadline: Int) throws {
        (check, self.deadline) = (probe.check, deadline)
        let (address, port, kind, transport): (IPAddress, Int, String, Int) =
            switch probe.check {
            case .ping(let address): (address, 0, "raw", address.family == .ipv4 ? 1 : 58)
            case .tcp(let address, let port): (address, port, "stream", 0)
            case .dns(let server, _): (server, 53, "datagram", 0)
            }
        descriptor = csystem_socket(address.family.number, kind, Int32(transport))
        guard descriptor >= 0 else { throw Attempt.error("socket") }
        let isConnected = address.withSocketAddress(port: port) { connect(descriptor, $0, $1) == 0 }
        if !isConnected, errno != EINPROGRESS { throw Attempt.error("connect") }
        let packet = request
        if !packet.isEmpty, send(descriptor, packet, packet.count, Int32(MSG_NOSIGNAL)) != packet.count {
            throw Attempt.error("send")
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    private static func error(_ call: String) -> EngineError {
        EngineError("\(call): \(String(cString: strerror(errno)))")
    }

    private var request: [UInt8] {
        let (high, low) = (UInt8(number >> 8), UInt8(number & 0xFF))
        switch check {
        case .ping(let address):
            // RFC 792, RFC 4443: type, code, checksum, identifier, sequence. The kernel sums up IPv6's itself.
            if address.family == .ipv6 { return [128, 0, 0, 0, high, low, 0, 1] }
            let sum = 0x0800 + Int(number) + 1
            let checksum = ~UInt16((sum & 0xFFFF) + (sum >> 16))
            return [8, 0, UInt8(checksum >> 8), UInt8(checksum & 0xFF), high, low, 0, 1]
        case .tcp: return []
        case .dns(_, let name):
            // RFC 1035, section 4: recursion desired, one question of type A and class IN.
            let labels = name.split(separator: ".").flatMap { [UInt8($0.utf8.prefix(63).count)] + $0.utf8.prefix(63) }
            return [high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0] + labels + [0, 0, 1, 0, 1]
        }
    }

    /// The box's own address on the way there.
    var source: IPAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let isKnown = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) == 0 }
        }
        return isKnown ? IPAddress(storage) : nil
    }

    func outcome() -> Outcome {
        if case .tcp = check {
            var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            guard poll(&polled, 1, 0) > 0 else { return .waits }
            var error: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length)
            return error == 0 ? .held : .failed(String(cString: strerror(error)))
        }
        var buffer = [UInt8](repeating: 0, count: 2048)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count < 0 {
                if errno == EINTR { continue }
                return errno == EAGAIN ? .waits : .failed(String(cString: strerror(errno)))
            }
            if isAnswer(buffer[..<count]) { return .held }
        }
    }

    private func isAnswer(_ bytes: ArraySlice<UInt8>) -> Bool {
        func hasNumber(_ bytes: ArraySlice<UInt8>, at offset: Int) -> Bool {
            let start = bytes.startIndex + offset
            return bytes.count >= offset + 2 && UInt16(bytes[start]) << 8 | UInt16(bytes[start + 1]) == number
        }
        switch check {
        case .ping(let address):
            // A raw socket of IPv4 gives the IP header too.
            let body = address.family == .ipv4 ? bytes.dropFirst(4 * Int((bytes.first ?? 0) & 0x0F)) : bytes
            return body.first == (address.family == .ipv4 ? 0 : 129) && hasNumber(body, at: 4)
        case .tcp: return false
        case .dns: return hasNumber(bytes, at: 0) && bytes.count >= 12 && bytes[bytes.startIndex + 2] & 0x80 != 0
        }
    }
}
