import CSystem
import Callers
import Documents
import Files
import Glibc
import PluginKit
import Units

/// A local socket: a connection sends a line of JSON and gets one back, or, where it asked for events,
/// many. Nothing here waits: the engine's loop polls for it.
final class Server {
    /// Bounds of what callers can make the engine keep.
    struct Bounds {
        /// Connections of one user at a time, and of all users.
        var ofUser = 32
        var all = 256
        /// Milliseconds that a request may take to arrive, and that an answer may go without being
        /// read.
        var patience = 10_000
        /// Bytes of one user's requests that are not answered, and of the answers that he has not read.
        var request: (Role?) -> Int = Server.largestRequest
        /// Whether a caller's role counts: to find it costs a look at the user database.
        var hasRoles = true
        /// The unit of a service, by its name: what it may ask for.
        var unit: (String) -> Unit? = { _ in nil }
    }

    /// A request that is whole.
    struct Asked {
        let json: JSON
        let connection: ClientConnection
    }

    private let listener: File
    private let bounds: Bounds
    private var connections: [ClientConnection] = []
    /// Until when no connection is taken, in milliseconds of the kernel's time: there is no descriptor
    /// left for one.
    private var pausedUntil: Int?

    /// Connections that are taken in a pass of the loop, and the pause without a descriptor in
    /// milliseconds.
    private static let (mostTaken, pause) = (32, 50)

    /// Members of feeds, and documents with them, are long; a user who may only read sends documents to
    /// try at most.
    static func largestRequest(of role: Role?) -> Int {
        switch role {
        case .administrator, .customer, .operator: 64 << 20
        case .readOnly: 8 << 20
        case nil: 64 << 10
        }
    }

    /// - Parameters:
    ///   - group: may connect beside root; nil for every user.
    init(path: String, group: gid_t?, bounds: Bounds = Bounds()) throws {
        if let folder = FileSystem.parent(of: path) { try FileSystem.makeDirectory(folder) }
        let descriptor = csystem_listen_unix(path, 0)
        guard descriptor >= 0 else { throw SystemError("bind", path) }
        listener = File(descriptor: descriptor, path: path)
        self.bounds = bounds
        guard chown(path, uid_t.max, group ?? gid_t.max) == 0, chmod(path, group == nil ? 0o666 : 0o660) == 0 else {
            throw SystemError("chown", path)
        }
    }

    // MARK: - In the engine's loop

    /// What to poll for.
    var polled: [pollfd] {
        let taking = pollfd(fd: listener.descriptor, events: Int16(POLLIN), revents: 0)
        return (pausedUntil == nil ? [taking] : []) + connections.compactMap(\.polled)
    }

    /// When there is something to do though nothing came, in milliseconds of the kernel's time.
    var due: Int? {
        if !answerable.isEmpty { return 0 }
        return (connections.map(\.deadline) + [pausedUntil]).compactMap { $0 }.min()
    }

    /// Takes new connections, reads and writes what can be, and closes what took too long.
    func step() {
        takeConnections()
        let now = Uptime.milliseconds
        for connection in connections {
            connection.step()
            if connection.isReading || connection.isWhole {
                let limit = bounds.request(connection.role)
                if kept(of: connection.caller.user, \.received) > limit {
                    connection.answer(["error": .text("the user's requests have more than \(limit) bytes")])
                }
            }
            if let deadline = connection.deadline, now >= deadline { connection.close() }
        }
        connections.removeAll { $0.isOver }
    }

    private func kept(of user: uid_t, _ bytes: (ClientConnection) -> Int) -> Int {
        connections.filter { $0.caller.user == user }.reduce(0) { $0 + bytes($1) }
    }

    /// Whole requests, without those of users who must read their answers first.
    private var answerable: [ClientConnection] {
        connections.filter {
            $0.isWhole && kept(of: $0.caller.user, \.unread) <= bounds.request($0.role)
        }
    }

    /// The next request to answer: of the highest role, and of these the first. Its connection is
    /// answered by the caller, now or later.
    func next() -> Asked? {
        while true {
            let whole = answerable
            guard let role = whole.map(\.rank).max(), let first = whole.first(where: { $0.rank == role }) else {
                return nil
            }
            do {
                return Asked(json: try first.takeRequest(), connection: first)
            } catch {
                first.answer(["error": .text("the request is no JSON: \(error)")])
            }
        }
    }

    private func takeConnections() {
        if let end = pausedUntil, Uptime.milliseconds < end { return }
        pausedUntil = nil
        for _ in 0..<Self.mostTaken {
            let descriptor = csystem_accept(listener.descriptor)
            guard descriptor >= 0 else {
                if errno == EINTR || errno == ECONNABORTED { continue }
                // The caller waits in the kernel's queue. The listener stays readable meanwhile.
                if errno != EAGAIN { pausedUntil = Uptime.milliseconds + Self.pause }
                return
            }
            let connection = ClientConnection(descriptor, bounds)
            makeRoom(for: connection.caller.user)
            connections.append(connection)
        }
    }

    /// Closes the connection that has been silent for longest: of the same user, or, when there are too
    /// many in all, of the user with the most. Connections that wait for an answer go last.
    private func makeRoom(for user: uid_t) {
        func closeSilent(of user: uid_t) {
            let own = connections.filter { $0.caller.user == user }
            (own.first(where: \.isReading) ?? own.first)?.close()
            connections.removeAll { $0.isOver }
        }
        if connections.count(where: { $0.caller.user == user }) >= bounds.ofUser { closeSilent(of: user) }
        guard connections.count >= bounds.all else { return }
        let counts = Dictionary(grouping: connections) { $0.caller.user }.mapValues(\.count)
        if let most = counts.max(by: { $0.value < $1.value })?.key { closeSilent(of: most) }
    }
}

/// A connection to a ``Server``.
final class ClientConnection {
    private enum State { case reading, whole, waiting, writing, streaming, over }

    let caller: Caller
    /// Nil for a caller without a role.
    let role: Role?
    /// The request that is being answered, when the audit log gets it.
    var audited: AuditedRequest?
    /// Is done when the connection ends.
    var ended: (() -> Void)?
    /// Nil when the connection is closed: others may refer to it still, to answer it.
    private var file: File?
    private let patience: Int
    private var state = State.reading
    private var input: [UInt8] = []
    /// Bytes of the request that is being answered.
    private var asked = 0
    private var output: ArraySlice<UInt8> = []
    private(set) var deadline: Int?
    /// When it ends however busy it is, while a request arrives or an answer is read.
    private var latest = 0

    /// Bytes of events that a caller may leave unread: then the connection is closed, and the caller
    /// subscribes again from its last cursor.
    private static let mostUnread = 1 << 20
    /// Values of a request: edits are its longest list.
    private static let mostValues = 100_000
    /// Bytes that are read of a connection in a pass of the loop: others have their turn.
    private static let mostAtOnce = 1 << 20
    /// How many times the patience of a moment a request or an answer may take in all.
    private static let longest = 6

    fileprivate init(_ descriptor: Int32, _ bounds: Server.Bounds) {
        file = File(descriptor: descriptor, path: "a connection")
        caller = Caller(connection: descriptor)
        role = bounds.hasRoles ? caller.role(descriptor, bounds.unit) : nil
        patience = bounds.patience
        beginTurn()
    }

    private func beginTurn() {
        latest = Uptime.milliseconds + Self.longest * patience
        goOn()
    }

    /// Something was read or written: there is time for more.
    private func goOn() { deadline = min(Uptime.milliseconds + patience, latest) }

    private var descriptor: Int32 { file?.descriptor ?? -1 }

    fileprivate var isReading: Bool { state == .reading }
    fileprivate var isWhole: Bool { state == .whole }
    fileprivate var isOver: Bool { state == .over }
    var rank: Int { role.flatMap { Role.allCases.firstIndex(of: $0) } ?? -1 }
    fileprivate var received: Int { input.count + asked }
    fileprivate var unread: Int { output.count }
    /// False when the caller has disconnected.
    var isOpen: Bool { state != .over }

    fileprivate var polled: pollfd? {
        switch state {
        case .reading: pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        case .writing: pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        // Of these only the end is wanted, which needs no event (poll(2), POLLHUP).
        case .waiting: pollfd(fd: descriptor, events: 0, revents: 0)
        case .streaming:
            pollfd(fd: descriptor, events: output.isEmpty ? 0 : Int16(POLLOUT), revents: 0)
        case .whole, .over: nil
        }
    }

    fileprivate func step() {
        switch state {
        case .reading: read()
        case .writing, .streaming: write()
        case .waiting, .whole, .over: break
        }
        if state == .waiting || state == .streaming, hasHungUp { close() }
    }

    /// The caller has closed its end. One that only ended its writing side still waits for an answer.
    private var hasHungUp: Bool {
        var polled = pollfd(fd: descriptor, events: 0, revents: 0)
        return poll(&polled, 1, 0) > 0 && polled.revents & Int16(POLLHUP | POLLERR) != 0
    }

    private func read() {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var count = 0
        while count < Self.mostAtOnce {
            let received = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if received < 0, errno == EINTR { continue }
            if received < 0, errno == EAGAIN { return }
            if received <= 0 {
                // A caller that ends its request by closing its side has said all.
                if input.isEmpty { close() } else { state = .whole }
                return
            }
            count += received
            input += buffer[..<received]
            goOn()
            if buffer[received - 1] == UInt8(ascii: "\n") {
                (state, deadline) = (.whole, nil)
                return
            }
        }
    }

    fileprivate func takeRequest() throws -> JSON {
        let bytes = input
        (input, asked, state, deadline) = ([], bytes.count, .waiting, nil)
        // A request is a few texts, however long: what is of more values is an attempt on the memory.
        return try JSON.parse(bytes, depth: 8, values: Self.mostValues)
    }

    /// Answers the request; the connection ends with it.
    func answer(_ json: JSON) { answer(line: Array((json.line + "\n").utf8)) }

    /// - Parameter line: JSON and a newline.
    func answer(line: [UInt8]) {
        guard state != .over else { return }
        (input, asked, output, state) = ([], 0, line[...], .writing)
        beginTurn()
        write()
    }

    /// Sends an event; from the first one on the connection is for events.
    ///
    /// - Parameter isState: of those that come first, which may be longer than what a caller may leave
    ///   unread.
    func send(event: JSON, isState: Bool = false) {
        guard state == .waiting || state == .streaming else { return }
        (state, asked, deadline) = (.streaming, 0, nil)
        output += Array((event.line + "\n").utf8)
        write()
        if output.count > Self.mostUnread, !isState { close() }
    }

    private func write() {
        while !output.isEmpty {
            let count = output.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
            }
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN { return }
            if count <= 0 { return close() }
            output = output.dropFirst(count)
            if state == .writing { goOn() }
        }
        if state == .writing { close() }
    }

    fileprivate func close() {
        ended?()
        ended = nil
        (state, input, asked, output, deadline, file) = (.over, [], 0, [], nil, nil)
    }
}
