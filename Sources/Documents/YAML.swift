import CYaml

/// Reads YAML 1.1 into a ``Node`` by libyaml's events. JSON, being YAML's flow style, is read as well.
public enum YAML {
    /// Bounds that no honest document comes near, so that a hostile one ends in an error and not in a full memory.
    public enum Limit {
        /// Bytes of a document.
        public static let bytes = 4 << 20
        /// Nesting of mappings and lists.
        public static let depth = 64
        /// Nodes, aliases counted as often as they are used.
        public static let nodes = 200_000
    }

    /// Reads one document.
    ///
    /// - Parameters:
    ///   - bytes: UTF-8 text, at most ``Limit/bytes``.
    ///   - file: the name that errors show.
    /// - Returns: the root node; an empty document is a null scalar.
    /// - Throws: the first ``Problem`` found: what libyaml says of the syntax, a duplicate or non-scalar key, a second
    ///   document, a tag, a merge key, an alias to an unknown or enclosing anchor, or a limit.
    public static func read(_ bytes: [UInt8], file: String) throws(InvalidDocument) -> Node {
        guard bytes.count <= Limit.bytes else {
            let start = SourcePosition(file: file, line: 1, column: 1)
            let message = "the document has \(bytes.count) bytes; at most \(Limit.bytes) are allowed"
            throw InvalidDocument([Problem(position: start, path: "", message: message)])
        }
        var reader = Reader(file: file)
        do {
            return try reader.read(bytes)
        } catch {
            throw InvalidDocument([error])
        }
    }

    private struct Reader {
        let file: String
        var anchors: [String: (node: Node, weight: Int)] = [:]
        var openAnchors: Set<String> = []
        var nodes = 0
        var parser = yaml_parser_t()

        init(file: String) { self.file = file }

        mutating func read(_ bytes: [UInt8]) throws(Problem) -> Node {
            guard yaml_parser_initialize(&parser) == 1 else {
                throw Problem(position: position(yaml_mark_t()), path: "", message: "libyaml has no memory left")
            }
            defer { yaml_parser_delete(&parser) }
            // libyaml keeps the pointer until it is deleted, so the whole reading happens inside the closure.
            let result: Result<Node, Problem> = bytes.withUnsafeBufferPointer { buffer in
                yaml_parser_set_input_string(&parser, buffer.baseAddress, buffer.count)
                yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING)
                return Result { () throws(Problem) -> Node in try document() }
            }
            return try result.get()
        }

        mutating func document() throws(Problem) -> Node {
            _ = try next()  // the stream's start
            var event = try next()
            if case .streamEnd = event.kind {
                return Node(value: .scalar(.init(text: "", isPlain: true)), position: event.position)
            }
            event = try next()
            let root = try node(event, depth: 0)
            _ = try next()  // the document's end
            event = try next()
            guard case .streamEnd = event.kind else {
                throw Problem(position: event.position, path: "", message: "a second document; only one is allowed")
            }
            return root
        }

        mutating func node(_ event: Event, depth: Int) throws(Problem) -> Node {
            if case .alias(let name) = event.kind { return try resolve(name, at: event.position) }
            try count(1, at: event.position)
            guard depth < Limit.depth else {
                throw Problem(
                    position: event.position, path: "", message: "nested deeper than \(Limit.depth) levels")
            }
            let before = nodes - 1
            if let anchor = event.anchor { openAnchors.insert(anchor) }
            let value: Node.Value
            switch event.kind {
            case .scalar(let scalar): value = .scalar(scalar)
            case .sequenceStart: value = .sequence(try sequence(depth: depth))
            case .mappingStart: value = .mapping(try mapping(depth: depth))
            default: throw Problem(position: event.position, path: "", message: "a value was expected here")
            }
            let node = Node(value: value, position: event.position)
            if let anchor = event.anchor {
                openAnchors.remove(anchor)
                anchors[anchor] = (node, nodes - before)
            }
            return node
        }

        mutating func sequence(depth: Int) throws(Problem) -> [Node] {
            var items: [Node] = []
            while true {
                let event = try next()
                if case .sequenceEnd = event.kind { return items }
                items.append(try node(event, depth: depth + 1))
            }
        }

        mutating func mapping(depth: Int) throws(Problem) -> [Node.Entry] {
            var entries: [Node.Entry] = []
            // Mappings are short: looking through a few keys costs less than a dictionary.
            var seen: [String: SourcePosition] = [:]
            func first(_ key: String) -> SourcePosition? {
                if seen.isEmpty { return entries.first { $0.key == key }?.keyPosition }
                return seen[key]
            }
            while true {
                let event = try next()
                if case .mappingEnd = event.kind { return entries }
                guard case .scalar(let key) = event.kind else {
                    throw Problem(position: event.position, path: "", message: "a key must be a plain word")
                }
                if key.isPlain, key.text == "<<" {
                    throw Problem(
                        position: event.position, path: "", message: "merge keys (<<) are not supported",
                        hint: "repeat the keys, or use an alias for the whole value")
                }
                if let first = first(key.text) {
                    throw Problem(
                        position: event.position, path: key.text,
                        message: "the key stands twice; the first is on line \(first.line)")
                }
                if entries.count >= 16 {
                    if seen.isEmpty { for entry in entries { seen[entry.key] = entry.keyPosition } }
                    seen[key.text] = event.position
                }
                let value = try node(try next(), depth: depth + 1)
                entries.append(.init(key: key.text, keyPosition: event.position, value: value))
            }
        }

        mutating func resolve(_ name: String, at position: SourcePosition) throws(Problem) -> Node {
            if openAnchors.contains(name) {
                throw Problem(position: position, path: "", message: "the alias *\(name)* lies within its own anchor")
            }
            guard let (node, weight) = anchors[name] else {
                throw Problem(
                    position: position, path: "", message: "no anchor &\(name) stands before this alias",
                    hint: didYouMean(name, among: Array(anchors.keys)).map { "did you mean *\($0)?" })
            }
            try count(weight, at: position)
            return Node(value: node.value, position: position)
        }

        mutating func count(_ more: Int, at position: SourcePosition) throws(Problem) {
            nodes += more
            if nodes > Limit.nodes {
                throw Problem(
                    position: position, path: "",
                    message: "more than \(Limit.nodes) values, counting each alias as often as it is used")
            }
        }

        func position(_ mark: yaml_mark_t) -> SourcePosition {
            SourcePosition(file: file, line: Int(mark.line) + 1, column: Int(mark.column) + 1)
        }

        struct Event {
            enum Kind {
                case streamStart, streamEnd, documentStart, documentEnd
                case sequenceStart, sequenceEnd, mappingStart, mappingEnd
                case scalar(Node.Scalar)
                case alias(String)
            }
            var kind: Kind
            var anchor: String?
            var position: SourcePosition
        }

        mutating func next() throws(Problem) -> Event {
            var raw = yaml_event_t()
            guard yaml_parser_parse(&parser, &raw) == 1 else { throw syntaxProblem() }
            defer { yaml_event_delete(&raw) }
            let here = position(raw.start_mark)
            var event = Event(kind: .streamStart, anchor: nil, position: here)
            var tag: String?
            switch raw.type {
            case YAML_STREAM_END_EVENT: event.kind = .streamEnd
            case YAML_DOCUMENT_START_EVENT: event.kind = .documentStart
            case YAML_DOCUMENT_END_EVENT: event.kind = .documentEnd
            case YAML_SEQUENCE_END_EVENT: event.kind = .sequenceEnd
            case YAML_MAPPING_END_EVENT: event.kind = .mappingEnd
            case YAML_ALIAS_EVENT: event.kind = .alias(string(raw.data.alias.anchor) ?? "")
            case YAML_SEQUENCE_START_EVENT:
                event.kind = .sequenceStart
                event.anchor = string(raw.data.sequence_start.anchor)
                tag = string(raw.data.sequence_start.tag)
            case YAML_MAPPING_START_EVENT:
                event.kind = .mappingStart
                event.anchor = string(raw.data.mapping_start.anchor)
                tag = string(raw.data.mapping_start.tag)
            case YAML_SCALAR_EVENT:
                let scalar = raw.data.scalar
                let text = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
                event.kind = .scalar(
                    .init(
                        text: String(decoding: text, as: UTF8.self),
                        isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE))
                event.anchor = string(scalar.anchor)
                tag = string(scalar.tag)
            default: break
            }
            if let tag {
                throw Problem(position: here, path: "", message: "the tag \(tag) is not supported; types are implied")
            }
            return event
        }

        func string(_ text: UnsafeMutablePointer<yaml_char_t>?) -> String? {
            text.map { String(cString: $0) }
        }

        func syntaxProblem() -> Problem {
            let message = parser.problem.map { String(cString: $0) } ?? "not readable as YAML"
            // Errors of the decoder (bad UTF-8, control characters) carry a byte offset and no mark.
            if parser.error == YAML_READER_ERROR {
                return Problem(
                    position: position(parser.mark), path: "",
                    message: "\(message) (at byte \(parser.problem_offset)); the file must be UTF-8 text")
            }
            return Problem(position: position(parser.problem_mark), path: "", message: message)
        }
    }
}
