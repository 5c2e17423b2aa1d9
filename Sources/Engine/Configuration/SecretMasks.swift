import Documents

/// Hides what plugins have copied from secrets of documents into what they plan.
struct SecretMasks: Sendable {
    private let secrets: [String]

    init(of documents: [Node]) {
        secrets = Set(documents.flatMap(\.secretTexts)).map {
            // As it stands within a line of JSON.
            String(JSON.text($0).line.dropFirst().dropLast())
        }.filter { !$0.isEmpty }.sorted { $0.utf8.count > $1.utf8.count }
    }

    /// Lines of a plan without secrets.
    func hide(_ lines: [String]) -> [String] {
        secrets.isEmpty ? lines : lines.map { $0.replacing(secrets, with: Node.mask) }
    }

    /// The document that a caller means who has seen another one masked.
    ///
    /// - Throws: ``EngineError`` for a mask in a place where no secret is known.
    static func meant(_ text: String, name: String, seen shown: @autoclosure () throws -> Node) throws -> String {
        if text.place(of: Node.mask) == nil { return text }
        let node = try YAML.read(Array(text.utf8), file: name).unmasked(by: try shown())
        if let masked = node.firstMask {
            throw EngineError(
                "\(masked.position): \(Node.mask) means a known secret, and none is known here; write the "
                    + "value")
        }
        return node.yaml
    }
}
