import Documents
import Planning
import PluginKit
import Processes

/// Looks for drift of the kinds that plugins' programs drive.
///
/// The engine's loop does not wait for the answers: a look starts the program and sends `observe`, and
/// later calls take the answer when it is there. A change of the plan drops what is not answered yet.
final class DriverDrift {
    /// A program that was asked.
    private struct Look {
        var process: Coprocess
        /// Milliseconds of the kernel's time.
        var deadline: Int
    }

    /// All by kind.
    private var looks: [String: Look] = [:]
    /// When each is looked at next, in milliseconds of the kernel's time.
    private var due: [String: Int] = [:]
    private var found: [String: [String]] = [:]
    /// Problems that were logged, so that each is logged once.
    private var logged: [String: String] = [:]

    /// Seconds that a program has to end after its answer.
    private static let endDeadline = 0.5

    /// Kinds that differ from the plan by the last look.
    var kinds: Set<String> { Set(found.filter { !$0.value.isEmpty }.keys) }

    /// Goes on with the looks that are due.
    ///
    /// - Returns: the differences that the last look of each kind found.
    func look(_ programs: [DriverProgram], at plan: Plan) -> [String] {
        for program in programs {
            let wanted = program.wanted(by: plan)
            if wanted.isEmpty { continue }
            do {
                try follow(program, wanted)
            } catch {
                (looks[program.kind], found[program.kind]) = (nil, nil)
                let text = "whether others have changed something can't be seen: \(error)"
                if logged.updateValue(text, forKey: program.kind) != text { Log.say(text) }
            }
        }
        return programs.flatMap { found[$0.kind] ?? [] }
    }

    private func follow(_ program: DriverProgram, _ wanted: [String: CustomResource]) throws {
        let (kind, now) = (program.kind, Uptime.milliseconds)
        let interval = program.driver.interval * 1000
        let what = "observe of \(kind)"
        guard let look = looks[kind] else {
            if now < due[kind, default: now + interval] {
                due[kind] = due[kind] ?? now + interval
                return
            }
            due[kind] = now + interval
            let process = try program.start()
            looks[kind] = Look(process: process, deadline: now + program.driver.deadline * 1000)
            do { try process.send(program.request("observe")) } catch { throw program.error(error, in: what) }
            return
        }
        let received: [UInt8]?
        do { received = try look.process.exchange(milliseconds: 0) } catch { throw program.error(error, in: what) }
        guard let received else {
            if now >= look.deadline { throw program.error(.late(seconds: program.deadline), in: what) }
            return
        }
        look.process.stop(within: Self.endDeadline)
        looks[kind] = nil
        due[kind] = now + interval
        let answer = try program.parse(received, to: what)
        if let complaint = program.complaint(in: answer) {
            throw EngineError("\(kind): \(program.title): \(complaint)")
        }
        let present = try program.present(in: answer)
        logged[kind] = nil
        found[kind] =
            wanted.keys.sorted().compactMap { id in
                guard let fields = present[id] else { return "\(kind) \(id) is missing" }
                return fields == wanted[id]?.fields ? nil : "\(kind) \(id) differs"
            }
            + present.keys.sorted().filter { wanted[$0] == nil }.map { "\(kind) \($0) is not in the plan" }
    }
}
