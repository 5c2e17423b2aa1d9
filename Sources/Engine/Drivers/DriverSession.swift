import Documents
import PluginKit
import Processes

/// A driver's program within one transaction. The first request starts it; ``end()`` ends it.
final class DriverSession {
    let program: DriverProgram
    private var process: Coprocess?
    /// An error that does not fail the transaction was logged.
    var isReported = false
    /// Why the program is not asked again in this transaction.
    private var failure: EngineError?
    /// The present resources, by identity; nil before the program has observed them.
    private var present: [String: [String: JSON]]?

    /// Seconds that the program has to end after its standard input was closed.
    private static let endDeadline = 2.0

    init(_ program: DriverProgram) { self.program = program }

    /// Asks whether resources can be applied as far as that can be known without a change.
    func check(_ wanted: [CustomResource]) throws(EngineError) {
        let list = wanted.map { DriverProgram.json($0.identity, $0.fields) }
        let answer = try ask("check", of: program.kind, ["resources": .list(list)])
        if let complaint = program.complaint(in: answer) {
            let name = (answer["id"]?.text).map { "\(program.kind) \($0)" } ?? program.kind
            throw EngineError("\(name): \(program.title) refuses it: \(complaint)")
        }
    }

    /// Applies a resource that differs from what is present.
    func apply(_ resource: CustomResource) throws(EngineError) {
        let (id, known) = (resource.identity, try observed())
        if known[id] == resource.fields { return }
        var entries = ["resource": DriverProgram.json(id, resource.fields)]
        if let fields = known[id] { entries["present"] = DriverProgram.json(id, fields) }
        try change("apply", id, entries)
        present?[id] = resource.fields
    }

    /// Removes a resource that is present.
    func remove(_ id: String) throws(EngineError) {
        guard let fields = try observed()[id] else { return }
        try change("remove", id, ["present": DriverProgram.json(id, fields)])
        present?[id] = nil
    }

    /// Removes what is present and not among these.
    func removeOthers(than wanted: Set<String>) throws(EngineError) {
        for id in try observed().keys.sorted() where !wanted.contains(id) { try remove(id) }
    }

    /// Lets the program end.
    func end() {
        if let process, process.stop(within: Self.endDeadline) == nil, failure == nil {
            Log.say("\(program.title): it did not end at the end of its standard input, and was killed")
        }
        process = nil
    }

    private func observed() throws(EngineError) -> [String: [String: JSON]] {
        if let present { return present }
        let answer = try ask("observe", of: program.kind)
        if let complaint = program.complaint(in: answer) {
            throw EngineError("\(program.kind): \(program.title) can't observe it: \(complaint)")
        }
        do {
            let found = try program.present(in: answer)
            present = found
            return found
        } catch {
            throw fail(error)
        }
    }

    private func change(_ verb: String, _ id: String, _ entries: [String: JSON]) throws(EngineError) {
        let answer = try ask(verb, of: "\(program.kind) \(id)", entries)
        if let complaint = program.complaint(in: answer) {
            throw EngineError("\(program.kind) \(id): \(program.title) can't \(verb) it: \(complaint)")
        }
    }

    /// - Throws: also where an earlier request failed: a program that hangs costs its deadline once in
    ///   a transaction.
    private func ask(
        _ verb: String, of subject: String, _ entries: [String: JSON] = [:]
    ) throws(EngineError) -> JSON {
        if let failure { throw failure }
        let what = "\(verb) of \(subject)"
        do {
            let process = try self.process ?? program.start()
            self.process = process
            // PID 1 restarts an engine that sends it no sign of life.
            let answer = try process.ask(program.request(verb, entries), deadline: program.deadline) {
                Notification.send("WATCHDOG=1")
            }
            return try program.parse(answer, to: what)
        } catch let error as Coprocess.Failure {
            throw fail(program.error(error, in: what))
        } catch let error as EngineError {
            throw fail(error)
        } catch {
            throw fail(EngineError("\(program.title): \(what): \(error)"))
        }
    }

    /// Gives the program up for this transaction.
    private func fail(_ error: EngineError) -> EngineError {
        failure = error
        process = nil
        return error
    }
}
