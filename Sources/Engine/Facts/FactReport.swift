import Documents
import Glibc
import PluginKit

/// A fact as a service reports it to the engine.
public struct FactReport: Sendable, Hashable {
    public var collection: String
    public var name: String
    /// Nil for one that is there no more.
    public var value: JSON?
    /// How long it holds from now on; nil for ever.
    public var seconds: Int?

    public init(_ collection: String, _ name: String, _ value: JSON?, seconds: Int? = nil) {
        self.collection = collection
        self.name = name
        self.value = value
        self.seconds = seconds
    }

    public init<Value: FactType>(_ name: String, _ value: Value, seconds: Int? = nil) {
        self.init(Value.collection, name, value.json, seconds: seconds)
    }

    /// Reports to the engine. While none answers it is tried again, for as long as an engine may take to
    /// start: an adapter must not lose a lease because the engine was being started anew.
    ///
    /// - Parameters:
    ///   - made: when the reporter was called, in milliseconds of the kernel's time.
    ///   - patience: seconds.
    /// - Throws: ``Refusal`` with the engine's answer; ``EngineError`` when none answers.
    public static func send(_ reports: [FactReport], made: Int, places: Places = Places(), patience: Int) throws {
        let client = EngineClient(socket: places.reportSocket)
        var refusal: Refusal?
        for report in reports {
            let request = JSON.object([
                "collection": .text(report.collection), "name": .text(report.name), "value": report.value,
                "seconds": report.seconds.map { .integer($0) }, "made": .integer(made),
            ])
            while true {
                do {
                    let answer = try client.ask(request)
                    // The others are reported nevertheless.
                    if let error = answer["error"]?.text { refusal = refusal ?? Refusal(description: error) }
                    break
                } catch {
                    guard now < made + 1000 * patience else { throw error }
                    usleep(200_000)
                }
            }
        }
        if let refusal { throw refusal }
    }

    /// Seconds for which a daemon's script tries to report while no engine answers.
    public static let patienceOfAdapters = 600

    /// What the engine has against a report: it would say the same again.
    public struct Refusal: Error, Sendable, CustomStringConvertible {
        public var description: String
    }

    /// The kernel's time in milliseconds.
    public static var now: Int { Uptime.milliseconds }
}
