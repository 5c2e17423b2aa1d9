import Documents
import Files

/// What a site document may hold, by the YANG modules that lie beside the plugins: for completion, and for documents that
/// leave the box as instance data (RFC 7951). Whether a document is right is the plugins' to say.
public struct Schema: Sendable {
    /// A data node of a module.
    public struct Node: Sendable, Hashable {
        public enum Kind: String, Sendable { case container, list, leaf, leafList = "leaf-list" }

        public var name: String
        public var kind: Kind
        /// What it may be, where that is a closed list.
        public var values: [String]
        /// YANG's own name of its type; `union` and `leafref` are not followed.
        var type: String
        /// How values of its type are compared.
        var forms: Set<CanonicalForm> = []
        /// The keys of a list.
        public var keys: [String] = []
        /// Whether a document may have it; otherwise it is operational state.
        public var isConfiguration = true
        public var children: [Node]
    }

    /// With the module that each belongs to, in the order of their names.
    public let top: [(module: String, node: Node)]

    /// - Parameter modules: their texts.
    public init(modules texts: [String]) {
        let modules = texts.compactMap { YANGStatement(module: $0) }
        top = modules.flatMap { module in
            Reader(module: module, others: modules).nodes(of: module).map { (module.argument, $0) }
        }.sorted { $0.node.name < $1.node.name }
    }

    /// Of the plugins that lie beside this program.
    public static func all() -> Schema {
        let program = (try? FileSystem.realPath("/proc/self/exe")) ?? ""
        return all(in: "\(FileSystem.parent(of: program) ?? "")/plugins")
    }

    /// Of a folder of plugins, as the box has them.
    public static func all(in folder: String) -> Schema {
        let names = (try? FileSystem.list(folder)) ?? []
        let texts = names.flatMap { name -> [String] in
            let files = ((try? FileSystem.list("\(folder)/\(name)")) ?? []).filter { $0.hasSuffix(".yang") }
            return files.compactMap { file in
                (try? FileSystem.read("\(folder)/\(name)/\(file)")).map { String(decoding: $0, as: UTF8.self) }
            }
        }
        return Schema(modules: texts)
    }

    /// What a document may have below a path.
    public func children(at path: DocumentPath) -> [Node] {
        var nodes = top.map(\.node)
        for step in path.steps {
            guard case .key(let key) = step else { continue }
            nodes = nodes.first { $0.name == key }?.children ?? []
        }
        return nodes.filter(\.isConfiguration)
    }

    /// What a value may be, where that is a closed list.
    public func values(at path: String) -> [String] {
        guard let path = try? DocumentPath(path),
            case .key(let last)? = path.steps.last(where: { if case .key = $0 { true } else { false } })
        else { return [] }
        var nodes = top.map(\.node)
        var found: Node?
        for case .key(let key) in path.steps {
            found = nodes.first { $0.name == key }
            nodes = found?.children ?? []
        }
        return found?.name == last ? found?.values ?? [] : []
    }

    // MARK: - Instance data

    /// A document as RFC 7951 has it: module names before the top keys, 64-bit numbers as texts. Parts of plugins that the
    /// modules don't know are left as they are.
    public func instanceData(of document: Documents.Node) -> JSON { instanceData(of: JSON(document)) }

    /// The same of plain data.
    public func instanceData(of data: JSON) -> JSON {
        guard case .object(let entries) = data else { return [:] }
        var result: [String: JSON] = [:]
        for (key, value) in entries {
            guard let found = top.first(where: { $0.node.name == key }) else {
                result[key] = value
                continue
            }
            result["\(found.module):\(key)"] = Self.data(value, found.node)
        }
        return .object(result)
    }

    private static func data(_ value: JSON, _ node: Node) -> JSON {
        switch value {
        case .object(let entries):
            return .object(
                Dictionary(
                    entries.map { key, value in
                        (key, node.children.first { $0.name == key }.map { data(value, $0) } ?? value)
                    }
                ) { $1 })
        case .list(let items): return .list(items.map { data($0, node) })
        // What YAML takes for a number or a truth value is a text where the module says so; big numbers are texts, too.
        case .integer, .boolean:
            return ["string", "int64", "uint64", "decimal64"].contains(node.type) ? .text(value.line) : value
        // The name of an object may be a number.
        case .text(let text):
            return ["int8", "int16", "int32", "uint8", "uint16", "uint32"].contains(node.type)
                ? Int(text).map { .integer($0) } ?? value : value
        case .null: return value
        }
    }
}

/// Makes data nodes of a module's statements.
private struct Reader {
    let module: YANGStatement
    let others: [YANGStatement]

    /// - Parameter isConfiguration: whether the statement's own node is.
    func nodes(of statement: YANGStatement, isConfiguration: Bool = true) -> [Schema.Node] {
        statement.children.flatMap { child -> [Schema.Node] in
            // RFC 7950, section 7.21.1: what is below state is state.
            let isConfiguration = isConfiguration && child["config"]?.argument != "false"
            if child.keyword == "choice" || child.keyword == "case" {
                return nodes(of: child, isConfiguration: isConfiguration)
            }
            if child.keyword == "uses" { return grouping(child.argument, isConfiguration) }
            guard let kind = Schema.Node.Kind(rawValue: child.keyword) else { return [] }
            let type = child["type"].map { base($0, in: module) }
            return [
                .init(
                    name: child.argument, kind: kind, values: type?.values ?? [], type: type?.name ?? "",
                    forms: child["type"].map { forms($0, in: module) } ?? [],
                    keys: child["key"]?.argument.split(whereSeparator: \.isWhitespace).map(String.init) ?? [],
                    isConfiguration: isConfiguration, children: nodes(of: child, isConfiguration: isConfiguration))
            ]
        }
    }

    /// The nodes of a grouping at the top of this module or of another one.
    private func grouping(_ name: String, _ isConfiguration: Bool) -> [Schema.Node] {
        guard let (home, name) = definition(name),
            let grouping = home.all("grouping").first(where: { $0.argument == name })
        else { return [] }
        return Reader(module: home, others: others).nodes(
            of: grouping, isConfiguration: isConfiguration)
    }

    /// The module that defines a name with or without a prefix, and the name there.
    private func definition(_ text: String) -> (module: YANGStatement, name: String)? {
        let words = text.split(separator: ":").map(String.init)
        guard let name = words.last else { return nil }
        if words.count == 1 || words[0] == module["prefix"]?.argument { return (module, name) }
        let imported = module.all("import").first { $0["prefix"]?.argument == words[0] }
        return others.first { $0.argument == imported?.argument }.map { ($0, name) }
    }

    /// The canonical forms of a type, of a union those of its members.
    private func forms(_ type: YANGStatement, in module: YANGStatement) -> Set<CanonicalForm> {
        if type.argument == "union" {
            return type.all("type").reduce(into: []) { $0.formUnion(forms($1, in: module)) }
        }
        let name = type.argument.split(separator: ":").last.map(String.init) ?? ""
        if let form = CanonicalForm(type: name) { return [form] }
        guard let (home, name) = Reader(module: module, others: others).definition(type.argument),
            let inner = home.all("typedef").first(where: { $0.argument == name })?["type"]
        else { return [] }
        return Reader(module: home, others: others).forms(inner, in: home)
    }

    /// YANG's own type behind typedefs, and its values where they are a closed list.
    private func base(_ type: YANGStatement, in module: YANGStatement) -> (name: String, values: [String]) {
        if type.argument == "enumeration" { return (type.argument, type.all("enum").map(\.argument)) }
        if type.argument == "boolean" { return (type.argument, ["true", "false"]) }
        guard let (home, name) = Reader(module: module, others: others).definition(type.argument),
            let inner = home.all("typedef").first(where: { $0.argument == name })?["type"]
        else { return (type.argument, []) }
        return base(inner, in: home)
    }
}
