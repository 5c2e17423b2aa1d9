import Documents
import PluginKit
import Schema

/// A request for configuration and state as data of the plugins' YANG modules: `<get-data>` of
/// RFC 8526, section 3.1.1, with a path in place of its filters.
struct DataRequest: Sendable {
    enum Datastore: String, CaseIterable, Sendable {
        case running, candidate, operational
    }

    let datastore: Datastore
    let path: DocumentPath
    /// True for configuration alone, false for state alone; nil for both.
    let isConfiguration: Bool?
    /// Levels from the path on; nil for all.
    let depth: Int?

    /// - Throws: what of the request is not allowed.
    init(_ json: JSON) throws {
        let name = json["datastore"]?.text ?? Datastore.operational.rawValue
        guard let datastore = Datastore(rawValue: name) else {
            throw EngineError.unknown("datastore", name, Datastore.allCases.map(\.rawValue))
        }
        self.datastore = datastore
        path = try DocumentPath(json["path"]?.text ?? "")
        switch json["config"] {
        case nil, .text("all"): isConfiguration = nil
        case .boolean(let value): isConfiguration = value
        case .text("true"): isConfiguration = true
        case .text("false"): isConfiguration = false
        case let value?: throw EngineError("config is true, false or \"all\", found \(value.line)")
        }
        switch json["depth"] {
        case nil, .text("unbounded"): depth = nil
        case .integer(let levels) where (1...65_535).contains(levels): depth = levels
        case let value?: throw EngineError("depth is 1 to 65535 or \"unbounded\", found \(value.line)")
        }
    }

    /// Whether something at this path of keys can be a part of the answer.
    func concerns(_ keys: [String]) -> Bool {
        let wanted = path.steps.compactMap { if case .key(let key) = $0 { key } else { nil } }
        return zip(wanted, keys).allSatisfy { $0 == $1 }
    }
}
