import Netlink
import Planning
import PluginKit

/// Deletes tracked connections that the policy accepted and accepts no more, or translates otherwise
/// than it did. Their next packet is the first of a new connection, and meets the rules.
///
/// The engine's loop calls ``step()`` when ``due`` has come. The kernel's connections are read as a
/// stream, so memory does not grow with their number, and each step is bounded: what it leaves
/// waits in the kernel.
final class Eviction {
    /// What the packet filter had at a time.
    struct Policy {
        var table: TablePlan
        /// Members of feeds, by the names of their sets.
        var fed: [String: FedSet]
        /// Seconds since 1970: members that end by then are not in it.
        var time: Int

        /// Whether another policy differs in feeds alone.
        func hasRules(of other: Policy) -> Bool {
            table.chains == other.table.chains && table.sets == other.table.sets && table.parts == other.table.parts
        }
    }

    /// Connections in a step.
    static let stepSize = 2000
    /// Milliseconds after which a step takes up no other connection.
    static let stepTime = 20
    /// Policies that are kept while passes go on.
    private static let mostPolicies = 16
    /// Passes in a row that fail before the eviction is abandoned.
    private static let attempts = 5
    /// Milliseconds between them.
    private static let retryDelay = 1000

    private let present: () -> Policy
    private let makeJudge: (_ present: Policy, _ earlier: [Policy]) -> ConnectionJudge
    private let open: () throws -> ConnectionDump

    /// The policies that connections may have begun under: those before each change that a whole pass
    /// has not followed yet. Of more changes than are kept, the first and the latest count.
    private var earlier: [Policy] = []
    /// The pass that goes on.
    private var dump: ConnectionDump?
    private var judge: ConnectionJudge?
    private var socket: ConnectionSocket?
    /// The policy has changed since the pass began: those that were inspected before are inspected
    /// again.
    private var isPassStale = false
    private var failedPasses = 0
    private var retryAt = 0
    /// Connections of this pass.
    private(set) var inspected = 0
    /// Connections of all passes since the oldest change.
    private(set) var deleted = 0
    private var refusals: (count: Int, first: String)?

    /// - Parameters:
    ///   - present: the policy in effect.
    ///   - routes: a socket of the box's network.
    ///   - members: what packets have put into a set.
    ///   - open: opens a dump of all connections.
    init(
        present: @escaping () -> Policy, routes: RouteSocket, members: @escaping (NamedSet) -> Set<String>,
        open: @escaping () throws -> ConnectionDump = { try ConnectionDump() }
    ) {
        self.present = present
        makeJudge = { ConnectionJudge(present: $0, earlier: $1, routes: routes, members: members) }
        self.open = open
    }

    /// When the next step is due, in milliseconds of the kernel's time; nil while no connection
    /// needs inspection.
    var due: Int? { earlier.isEmpty ? nil : retryAt }

    /// Has all connections inspected from now on.
    ///
    /// A pass that goes on continues by the new policy, and another one follows it: a policy that
    /// changes often delays no pass.
    ///
    /// - Parameter policy: what was in effect until now.
    func watch(since policy: Policy) {
        // A connection may have begun under each of them.
        if earlier.count < Self.mostPolicies { earlier.append(policy) } else { earlier[Self.mostPolicies - 1] = policy }
        judge = nil
        isPassStale = dump != nil
        failedPasses = 0
        retryAt = 0
    }

    /// Inspects the next connections, and deletes those that the policy forbids.
    func step() {
        guard let due, Uptime.milliseconds >= due else { return }
        do {
            let dump = try dump ?? open()
            self.dump = dump
            if try inspect(dump) { finish(dump) }
        } catch {
            if failedPasses == 0 { Log.say("connections can't be inspected: \(error); trying again") }
            retry(in: Self.retryDelay)
        }
    }

    /// - Returns: true at the end of the pass.
    private func inspect(_ dump: ConnectionDump) throws -> Bool {
        let end = Uptime.milliseconds + Self.stepTime
        for _ in 0..<Self.stepSize {
            guard let connection = try dump.next() else { return true }
            inspected += 1
            // The rules accept these by the connection that expects them.
            if !connection.isExpected { try inspect(connection) }
            if Uptime.milliseconds >= end { return false }
        }
        return false
    }

    private func inspect(_ connection: TrackedConnection) throws {
        let judge = judge ?? makeJudge(present(), earlier)
        self.judge = judge
        guard judge.isObsolete(connection) else { return }
        let socket = try socket ?? ConnectionSocket()
        self.socket = socket
        do {
            if try socket.delete(connection) { deleted += 1 }
        } catch {
            refusals = ((refusals?.count ?? 0) + 1, refusals?.first ?? "\(error)")
        }
    }

    private func finish(_ dump: ConnectionDump) {
        guard dump.isWhole else { return retry(in: 0) }
        failedPasses = 0
        if isPassStale { return beginAgain() }
        report()
        reset()
    }

    private func beginAgain() {
        dump = nil
        isPassStale = false
        inspected = 0
    }

    private func retry(in delay: Int) {
        beginAgain()
        failedPasses += 1
        retryAt = Uptime.milliseconds + delay
        guard failedPasses >= Self.attempts else { return }
        Log.say("connections are no longer inspected after \(Self.attempts) attempts: forbidden ones may go on")
        report()
        reset()
    }

    private func report() {
        if deleted > 0 {
            Log.say("connections deleted because the policy forbids them or translates them otherwise now: \(deleted)")
        }
        if let refusals { Log.say("connections not deleted: \(refusals.count), such as \(refusals.first)") }
    }

    private func reset() {
        beginAgain()
        earlier = []
        judge = nil
        socket = nil
        refusals = nil
        deleted = 0
        failedPasses = 0
        retryAt = 0
    }
}

extension FilterTable {
    /// The policy in effect: what the plan has put into the packet filter, and what feeds have.
    func policy(at time: Int) -> Eviction.Policy { .init(table: table, fed: loadedFed, time: time) }
}
