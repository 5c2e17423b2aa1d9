import Engine
import Glibc
import PluginKit

/// `vcpe-report` and the scripts of daemons that report facts to the engine, and do nothing else.
enum FactReporting {
    private static let usage = """
        usage: vcpe-report [--seconds N] COLLECTION NAME [KEY=TEXT | KEY:=JSON]…
               vcpe-report --remove COLLECTION NAME

        Reports a fact to the engine: plugins whose manifests name the collection plan anew. The manifest of the
        plugin that planned this service says which collections it may report into (docs/plugins.md).

          --seconds N   the fact ends after N seconds; without it, it ends with the service
          --remove      the fact is there no more

        Examples:
          vcpe-report --seconds 3600 leases wan address=203.0.113.7/24 gateway=203.0.113.1
          vcpe-report leases wan address=203.0.113.7/24 'resolvers:=["192.0.2.53"]'
          vcpe-report --remove leases wan

        Exit codes: 0 it is reported, 1 the engine refuses it or does not answer, 64 wrong usage.

        """

    /// Seconds that a person waits for an engine.
    private static let patience = 10

    static func run(_ arguments: [String]) -> Int32 {
        if arguments == ["--help"] || arguments == ["-h"] {
            print(usage, terminator: "")
            return 0
        }
        let made = FactReport.now
        let report: FactReport
        do {
            report = try parse(arguments)
        } catch {
            Log.say("vcpe-report: \(error)\n\(usage)")
            return 64
        }
        return send([report], "vcpe-report", made: made, patience: patience)
    }

    private static func parse(_ arguments: [String]) throws -> FactReport {
        var rest = arguments[...]
        var (isRemoved, seconds): (Bool, Int?) = (false, nil)
        while let option = rest.first, option.hasPrefix("--") {
            rest.removeFirst()
            switch option {
            case "--remove": isRemoved = true
            case "--seconds":
                guard let number = rest.popFirst().flatMap({ Int($0) }), number >= 0 else {
                    throw EngineError("--seconds takes a number of seconds")
                }
                seconds = number
            default: throw EngineError("\(option) is unknown; allowed are --remove and --seconds")
            }
        }
        guard rest.count >= 2, let collection = rest.popFirst(), let name = rest.popFirst() else {
            throw EngineError("the collection or the name is missing")
        }
        if isRemoved {
            guard rest.isEmpty, seconds == nil else {
                throw EngineError("--remove takes a collection and a name alone")
            }
            return FactReport(collection, name, nil)
        }
        var value: [String: JSON] = [:]
        for word in rest {
            guard let equals = word.firstIndex(of: "="), equals != word.startIndex else {
                throw EngineError("\"\(word)\" is neither KEY=TEXT nor KEY:=JSON")
            }
            let text = String(word[word.index(after: equals)...])
            var key = String(word[..<equals])
            if key.hasSuffix(":") {
                key.removeLast()
                do {
                    value[key] = try JSON.parse(text)
                } catch {
                    throw EngineError("\"\(word)\": \(error)")
                }
            } else {
                value[key] = .text(text)
            }
        }
        return FactReport(collection, name, .object(value), seconds: seconds)
    }

    /// As a daemon's script.
    static func run(as name: String) -> Int32 {
        let made = FactReport.now
        var environment: [String: String] = [:]
        var next = environ
        while let entry = next.pointee {
            let words = String(cString: entry).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if words.count == 2 { environment[String(words[0])] = String(words[1]) }
            next += 1
        }
        let reports =
            switch name {
            case "report-dhcpcd": DHCPCDAdapter.reports(environment)
            case "report-pppd-up": PPPDAdapter.reports(environment, isUp: true)
            case "report-pppd-down": PPPDAdapter.reports(environment, isUp: false)
            default: CharonAdapter.reports(environment)
            }
        if reports.isEmpty { return 0 }
        do {
            try FactReport.send(reports, made: made, patience: 0)
            return 0
        } catch let refusal as FactReport.Refusal {
            Log.say("\(name): \(refusal)")
            return 1
        } catch {
            // The daemon waits for its script, and must not wait for an engine that is being started: the rest is done
            // by a child.
            guard daemon(1, 1) == 0 else { return 1 }
            return send(reports, name, made: made, patience: FactReport.patienceOfAdapters)
        }
    }

    private static func send(_ reports: [FactReport], _ name: String, made: Int, patience: Int) -> Int32 {
        do {
            try FactReport.send(reports, made: made, patience: patience)
            return 0
        } catch {
            Log.say("\(name): \(error)")
            return 1
        }
    }
}
