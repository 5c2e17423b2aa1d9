import Documents
import Files
import Planning
import PluginKit
import Schema

/// The documents of a box's configuration as their owners gave them.
struct SiteDocuments: Sendable, Hashable {
    private var texts: [SiteDocument: String] = [:]

    /// Of the provider's document, nil is the factory's; of others, that there is none.
    subscript(document: SiteDocument) -> String? {
        get { texts[document] }
        set { texts[document] = newValue }
    }

    init() {}

    init(_ json: JSON) {
        for document in SiteDocument.allCases { texts[document] = json[document.rawValue]?.text }
    }

    var json: JSON {
        .object(Dictionary(texts.map { ($0.key.rawValue, .text($0.value)) }) { $1 })
    }

    /// In their order.
    var given: [SiteDocument] { SiteDocument.allCases.filter { texts[$0] != nil } }

    /// Documents that differ from those of `other`.
    func changes(from other: SiteDocuments) -> [SiteDocument] {
        SiteDocument.allCases.filter { self[$0] != other[$0] }
    }

    /// The same with another text of one document. A customer's document without a value is none.
    ///
    /// - Throws: what is wrong with its syntax.
    func with(_ text: String, as document: SiteDocument) throws -> SiteDocuments {
        var result = self
        let isNone = try document != .provider && YAML.read(Array(text.utf8), file: document.rawValue).isNull
        result[document] = isNone ? nil : text
        return result
    }
}

extension SiteReader {
    /// Refuses a document without content: a cut upload, or a template that gave nothing.
    static func checkContent(of node: Node, _ name: String) throws {
        let isEmpty = if case .mapping(let entries) = node.value { entries.isEmpty } else { node.isNull }
        guard isEmpty else { return }
        let problem = Problem(
            position: SourcePosition(file: name, line: 1, column: 1), path: "", message: "the document is empty",
            hint: "a box needs at least the key network; vcpectl factory-reset restores the factory's document")
        throw InvalidSite(problems: ["error: \(problem)"])
    }
}

/// Reads the documents of a box, and merges them.
struct SiteReader {
    let places: Places
    let manifests: [PluginManifest]

    /// The documents as trees, the factory's for that of a provider who gave none.
    ///
    /// - Parameter name: what errors call a provider's document that is the only one.
    func nodes(of documents: SiteDocuments, name: String) throws -> [SiteDocument: Node] {
        var nodes: [SiteDocument: Node] = [:]
        let isAlone = documents.given.allSatisfy { $0 == .provider }
        for document in documents.given {
            let file = isAlone ? name : document.rawValue
            nodes[document] = try YAML.read(Array((documents[document] ?? "").utf8), file: file)
        }
        if documents[.provider] == nil {
            nodes[.provider] = try factorySite(as: isAlone ? nil : SiteDocument.provider.rawValue)
        }
        return nodes
    }

    /// What the box is to follow.
    func merge(_ nodes: [SiteDocument: Node]) -> MergedDocument {
        let none = Node([:], position: .init(file: SiteDocument.provider.rawValue, line: 1, column: 1))
        let reserved = manifests.flatMap { manifest in
            manifest.locks.map { path in
                let whole = path.isEmpty ? manifest.key : "\(manifest.key).\(path)"
                return (whole, "only the provider's document may set it, by the plugin \(manifest.name)")
            }
        }
        return MergedDocument(
            nodes[.provider] ?? none,
            below: SiteDocument.allCases.filter { $0 != .provider }.compactMap { nodes[$0] },
            keys: manifests.map(\.key), reserved: Dictionary(reserved) { first, _ in first }
        ) { Schema.all(in: places.plugins) }
    }

    func read(_ documents: SiteDocuments, name: String) throws -> MergedDocument {
        merge(try nodes(of: documents, name: name))
    }

    /// What the box would follow, and what of it has no effect.
    ///
    /// - Parameter changed: documents that a user changes. What is wrong with the other ones is a
    ///   warning, and so is what a customer's document has at a locked path when the provider's
    ///   document is among them: no customer keeps a provider from locking.
    /// - Throws: ``InvalidSite``.
    func read(
        _ documents: SiteDocuments, name: String, changed: [SiteDocument]
    ) throws -> (node: Node, warnings: [String]) {
        let merged = try read(documents, name: name)
        let (isProviders, names) = (changed.contains(.provider), Set(changed.map(\.rawValue)))
        let wrong = merged.problems.filter { isProviders || names.contains($0.position.file) }
        let problems = wrong + (isProviders ? [] : merged.refused)
        if !problems.isEmpty { throw InvalidSite(problems: problems.map { "error: \($0)" }) }
        return (merged.node, (merged.problems + merged.refused + merged.overridden).map { "warning: \($0)" })
    }

    private func factorySite(as name: String?) throws -> Node? {
        guard FileSystem.exists(places.factorySite) else { return nil }
        return try YAML.read(
            try FileSystem.read(places.factorySite), file: name ?? FileSystem.name(of: places.factorySite))
    }

    /// The text of a document: the factory's for that of a provider who gave none, empty for
    /// another that is none.
    func text(of document: SiteDocument, in documents: SiteDocuments) -> String {
        if let text = documents[document] { return text }
        guard document == .provider else { return "" }
        return (try? FileSystem.read(places.factorySite)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
}
