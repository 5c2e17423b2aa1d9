import Documents
import Glibc
import Planning
import PluginKit
import Processes

/// Looks for drift of the kinds that plugins' programs drive.
///
/// The engine's loop does not wait for the answers: a look starts the program and sends `observe`, and
/// the loop polls for the answer. A change of the plan drops what is not answered yet.
final class DriverDrift {
    /// A program that was asked.
    private struct Look {
        var program: DriverProgram
        var wanted: [String: CustomResource]
        var process: Coprocess
        /// Milliseconds of the kernel's time.
        var deadline: Int
    }

    /// All by kind.
    private var looks: [String: Look] = [:]
    /// When each is looked at next, in milliseconds of the kernel's time.
    private var due: [String: Int] = [:]
    private var found: [String: [String]] = [:]
    /// Looks in a row that found a difference: a kind that is repaired in vain is looked at less often.
    private var repeats: [String: Int] = [:]
    /// Kinds that are looked at although nothing of them is planned: their last change failed.
    private var unfinished: Set<String> = []
    /// Problems that were logged, so that each is logged once.
    private var logged: [String: String] = [:]

    /// Seconds that a program has to end after its answer.
    private static let endDeadline = 0.5
    /// Looks that find a difference before their interval grows, and by what it grows at most.
    private static let (patience, longestFactor) = (4, 6)

    /// Kinds that differ from the plan by the last look.
    var kinds: Set<String> { Set(found.filter { !$0.value.isEmpty }.keys) }

    /// A transaction may have changed what was observed.
    func planHasChanged() { (looks, found) = ([:], [:]) }

    /// A change of a kind failed, and the transaction went on: it is tried again after the next look.
    func failed(_ kind: String) { unfinished.insert(kind) }

    // MARK: - In the engine's loop

    var polled: [pollfd] { looks.values.flatMap(\.process.polled) }

    /// When there is something to do though nothing came, in milliseconds of the kernel's time.
    var nextDeadline: Int? { looks.values.map(\.deadline).min() }

    /// Takes in what the programs have answered by now.
    func step() {
        for (kind, look) in looks {
            do {
                try follow(kind, look)
            } catch {
                (looks[kind], found[kind]) = (nil, nil)
                log(error, kind)
            }
        }
    }

    /// Begins the looks that are due.
    ///
    /// - Returns: the differences that the last look of each kind found.
    func look(_ programs: [DriverProgram], at plan: Plan) -> [String] {
        let now = Uptime.milliseconds
        for program in programs where looks[program.kind] == nil {
            let kind = program.kind
            let wanted = program.wanted(by: plan)
            if wanted.isEmpty, !unfinished.contains(kind) { continue }
            guard let time = due[kind], now >= time else {
                due[kind] = due[kind] ?? now + interval(of: program)
                continue
            }
            due[kind] = now + interval(of: program)
            do {
                let process = try program.start()
                looks[kind] = Look(
                    program: program, wanted: wanted, process: process,
                    deadline: now + program.driver.deadline * 1000)
                try send(program, process)
            } catch {
                (looks[kind], found[kind]) = (nil, nil)
                log(error, kind)
            }
        }
        return programs.flatMap { found[$0.kind] ?? [] }
    }

    /// Milliseconds.
    private func interval(of program: DriverProgram) -> Int {
        let inVain = max(0, (repeats[program.kind] ?? 0) - Self.patience)
        return program.driver.interval * 1000 << min(inVain, Self.longestFactor)
    }

    private func send(_ program: DriverProgram, _ process: Coprocess) throws(EngineError) {
        do {
            try process.send(program.request("observe"))
        } catch {
            throw program.error(error, in: "observe of \(program.kind)")
        }
    }

    private func follow(_ kind: String, _ look: Look) throws(EngineError) {
        let (program, what) = (look.program, "observe of \(kind)")
        let now = Uptime.milliseconds
        if now >= look.deadline { throw program.error(.late(seconds: program.deadline), in: what) }
        let received: [UInt8]?
        do { received = try look.process.exchange(milliseconds: 0) } catch { throw program.error(error, in: what) }
        guard let received else { return }
        look.process.stop(within: Self.endDeadline)
        looks[kind] = nil
        let answer = try program.parse(received, to: what)
        if let complaint = program.complaint(in: answer) {
            throw EngineError("\(kind): \(program.title): \(complaint)")
        }
        let present = try program.present(in: answer)
        logged[kind] = nil
        unfinished.remove(kind)
        let wanted = look.wanted
        let differences =
            wanted.keys.sorted().compactMap { id -> String? in
                guard let fields = present[id] else { return "\(kind) \(id) is missing" }
                return fields == wanted[id]?.fields ? nil : "\(kind) \(id) differs"
            }
            + present.keys.sorted().filter { wanted[$0] == nil }.map { "\(kind) \($0) is not in the plan" }
        found[kind] = differences
        repeats[kind] = differences.isEmpty ? 0 : (repeats[kind] ?? 0) + 1
        due[kind] = now + interval(of: program)
    }

    private func log(_ error: any Error, _ kind: String) {
        let text = "drift of \(kind) can't be inspected: \(error)"
        if logged.updateValue(text, forKey: kind) != text { Log.say(text) }
    }
}
