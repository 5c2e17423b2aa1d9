import Accounts
import Callers
import Documents
import Planning
import Glibc
import PluginKit

/// The socket by which services report facts (`vcpe-report`). Any user may connect: the kernel identifies
/// the service, and its plugin's manifest lists what the service may report.
final class Reports {
    private let server: Server
    private let facts: FactStore

    init(places: Places, facts: FactStore) throws {
        self.facts = facts
        var bounds = Server.Bounds()
        (bounds.ofUser, bounds.all, bounds.patience, bounds.hasRoles) = (64, 256, 5000, false)
        // Reports of 64 callers at once: all services of root are one user.
        bounds.request = { _ in 64 * 2 * FactStore.mostBytes }
        server = try Server(path: places.reportSocket, group: nil, bounds: bounds)
    }

    var polled: [pollfd] { server.polled }
    var due: Int? { server.due }

    /// Takes the reports that have arrived.
    ///
    /// - Parameter manifest: that of the plugin which planned a service.
    /// - Returns: true when facts have changed.
    func step(_ manifest: (_ service: String) -> PluginManifest?) -> Bool {
        server.step()
        let before = facts.revision
        var answers: [(ClientConnection, JSON)] = []
        while let asked = server.next() {
            do {
                try take(asked.json, asked.connection.caller, manifest)
                answers.append((asked.connection, [:]))
            } catch {
                answers.append((asked.connection, ["error": .text("\(error)")]))
            }
        }
        // A reporter that is told so may rely on it.
        facts.save()
        for (connection, answer) in answers { connection.answer(answer) }
        return facts.revision != before
    }

    private func take(_ json: JSON, _ caller: Caller, _ manifest: (String) -> PluginManifest?) throws {
        guard let collection = json["collection"]?.text, let name = json["name"]?.text,
            let made = json["made"]?.integer
        else { throw EngineError("a report has collection, name and made, found \(json.line.prefix(120))") }
        var service = ""
        switch caller.origin {
        case .service(let name):
            try Self.check(name, manifest(name), collection)
            service = name
        case .system where caller.user == 0: break
        case .system, .session:
            throw EngineError("\(caller.name) is no service of a plugin: services report facts, and root")
        case .unknown:
            throw EngineError("the reporting process has ended: it must wait for the answer")
        }
        // A clock that runs ahead would keep all later reports out.
        let moment = min(made, Uptime.milliseconds)
        guard let value = json["value"] else {
            return try facts.remove(collection, name, by: service, made: moment)
        }
        var ends: Int?
        if let seconds = json["seconds"] {
            guard let seconds = seconds.integer, (0...4_294_967_295).contains(seconds) else {
                throw EngineError("seconds are 0 to 4294967295, found \(seconds.line)")
            }
            // RFC 2131, section 3.3: all ones are for ever. So are they in RFC 8415, section 7.7.
            ends = seconds == 4_294_967_295 ? nil : moment + seconds * 1000
        }
        try facts.take(
            .init(value: value, ends: ends, made: moment, service: service), collection, name)
    }

    private static func check(_ service: String, _ manifest: PluginManifest?, _ collection: String) throws {
        guard let manifest else {
            throw EngineError("the service \(service) is no plugin's: it reports no facts")
        }
        let names = manifest.reports[collection] ?? []
        let may = names.contains { name in
            name.hasSuffix("*") ? service.hasPrefix(String(name.dropLast())) : service == name
        }
        guard may else {
            throw EngineError(
                "the manifest of \(manifest.name) lets its service \(service) report no \(collection); "
                    + "add it to the manifest's reports")
        }
    }
}
