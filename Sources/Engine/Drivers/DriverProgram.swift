import Documents
import Planning
import PluginKit
import Processes

/// A program of a plugin that drives a kind of resources. `docs/plugins.md`, "A kind of your own", has
/// the protocol.
struct DriverProgram: Sendable {
    var plugin: String
    var driver: PluginManifest.Driver
    /// An absolute path.
    var path: String
    /// The version of the contract that the plugin speaks.
    var contract: Int

    /// Bytes of one answer.
    static let answerLimit = 16 << 20

    var kind: String { driver.kind }
    /// Seconds that an answer may take.
    var deadline: Double { Double(driver.deadline) }
    /// Names it in errors.
    var title: String { "the driver \(driver.program) of the plugin \(plugin)" }

    /// Resources of its kind, by identity.
    func wanted(by plan: Plan) -> [String: CustomResource] {
        let own = plan.values(CustomResource.self).filter { $0.lineKind == kind }
        return Dictionary(own.map { ($0.identity, $0) }) { $1 }
    }

    // MARK: - The protocol

    func start() throws(EngineError) -> Coprocess {
        do {
            return try Coprocess(path, ["drive", kind], limit: Self.answerLimit) { [plugin, driver] line in
                Log.say("\(plugin)/\(driver.program): \(line)")
            }
        } catch {
            throw EngineError("\(title) can't be started: \(error)")
        }
    }

    /// A line without its end.
    func request(_ verb: String, _ entries: [String: JSON] = [:]) -> [UInt8] {
        var entries = entries
        entries["do"] = .text(verb)
        entries["contract"] = .integer(contract)
        return Array(JSON.object(entries).line.utf8)
    }

    /// A resource in a request, and in an answer to `observe`.
    static func json(_ id: String, _ fields: [String: JSON]) -> JSON {
        .object(fields.merging(["id": .text(id)]) { $1 })
    }

    /// - Parameter what: for errors, such as `apply of guest web`.
    /// - Returns: an object.
    /// - Throws: for what is not one.
    func parse(_ answer: [UInt8], to what: String) throws(EngineError) -> JSON {
        do {
            let json = try JSON.parse(answer)
            if json.object != nil { return json }
        } catch {
            throw unusable(answer, what, "is not JSON (\(error))")
        }
        throw unusable(answer, what, "is not a JSON object")
    }

    private func unusable(_ answer: [UInt8], _ what: String, _ problem: String) -> EngineError {
        EngineError(
            "\(title): its answer to \(what) \(problem), an object such as {} is allowed: "
                + String(decoding: answer.prefix(120), as: UTF8.self))
    }

    /// What an answer to `observe` says is present, by identity.
    func present(in answer: JSON) throws(EngineError) -> [String: [String: JSON]] {
        let what = "observe of \(kind)"
        guard let list = answer["resources"]?.list else {
            throw unusable(Array(answer.line.utf8), what, "has no list \"resources\"")
        }
        var present: [String: [String: JSON]] = [:]
        for item in list {
            guard let id = item["id"]?.text, CustomResource.isIdentity(id) else {
                throw unusable(Array(item.line.utf8), what, "has a resource without an id")
            }
            let resource = CustomResource(kind: kind, id: id, item.object ?? [:])
            guard present.updateValue(resource.fields, forKey: id) == nil else {
                throw unusable(Array(item.line.utf8), what, "has the resource \(id) twice")
            }
        }
        return present
    }

    /// The complaint in an answer; nil in one that has none.
    func complaint(in answer: JSON) -> String? {
        guard let error = answer["error"] else { return nil }
        return String((error.text ?? error.line).prefix(1000))
    }

    /// - Parameter what: for errors, such as `apply of guest web`.
    func error(_ failure: Coprocess.Failure, in what: String) -> EngineError {
        let problem =
            switch failure {
            case .late(let seconds):
                "no answer to \(what) within \(Int(seconds)) s, and it was killed; "
                    + "the log has what it wrote, and its manifest's deadline is the limit"
            case .ended(let status):
                "it \(status.map { "ended with \($0)" } ?? "closed its output") instead of answering \(what); "
                    + "the log has what it wrote"
            case .tooLong(let limit): "its answer to \(what) has more than \(limit) bytes, and it was killed"
            case .unasked(let text):
                "in \(what) it wrote more than one line an answer, and it was killed: \(text)"
            case .early(let text):
                "it answered \(what) before it had read the whole request, and it was killed: \(text)"
            }
        return EngineError("\(title): \(problem)")
    }
}

extension Planner {
    /// The programs that drive the kinds of these plugins, in the order of the plugins' names.
    ///
    /// - Parameter folder: has the plugins' own folders.
    func driverPrograms(in folder: String) -> [DriverProgram] {
        plugins.flatMap { member in
            member.manifest.drivers.map { driver in
                DriverProgram(
                    plugin: member.runner.name, driver: driver,
                    path: driver.isOwnFile ? "\(folder)/\(member.runner.name)/\(driver.program)" : driver.program,
                    contract: member.manifest.contract ?? PluginManifest.contracts[0])
            }
        }
    }
}
