import Documents

/// Something of libnftables' schema that this model does not have, or that is not of the schema at all.
public struct UnsupportedRuleset: Error, Sendable, Hashable, CustomStringConvertible {
    /// What can't be taken, with its JSON.
    public var description: String

    init(_ json: JSON, _ what: String, allowed: [String] = []) {
        let text = json.line
        description =
            "\(what) is not supported: \(text.prefix(200))\(text.count > 200 ? "…" : "")"
            + (allowed.isEmpty ? "" : "; allowed are \(allowed.joined(separator: ", "))")
    }

    /// A value that can't be what its place wants.
    public init(_ description: String) { self.description = description }
}

extension JSON {
    /// Seconds, when this is a number of them; nil for what isn't there.
    ///
    /// - Throws: for what is negative, or beyond what the kernel's milliseconds hold.
    static func seconds(_ json: JSON?) throws(UnsupportedRuleset) -> Int? {
        guard let json else { return nil }
        guard let seconds = json.integer, (0...1 << 32).contains(seconds) else {
            throw UnsupportedRuleset(json, "this timeout")
        }
        return seconds
    }

    /// The one key and value of an object with exactly one.
    var single: (String, JSON)? {
        guard case .object(let entries) = self, entries.count == 1, let entry = entries.first else { return nil }
        return (entry.key, entry.value)
    }
}
