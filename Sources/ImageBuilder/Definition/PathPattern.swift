import Documents
import Glibc

/// A pattern of absolute paths of an image, as `keep:` and `drop:` take it.
///
/// `*` matches within a path component, `**` matches any number of components, `?` matches one
/// character. A pattern that ends in a slash matches the directory and everything below it.
public struct PathPattern: Sendable, Hashable {
    /// As written, with the leading slash.
    public let text: String
    private let elements: [Element]
    /// The bytes before the first wildcard, with which every match starts.
    private let literal: [UInt8]
    /// Of a pattern that ends in a slash, without it.
    private let directory: [Element]?

    private enum Element: Sendable, Hashable {
        case byte(UInt8)
        /// Any byte but a slash.
        case any
        /// Any bytes but slashes.
        case star
        /// Any bytes.
        case deepStar

        var byte: UInt8? { if case .byte(let byte) = self { byte } else { nil } }
    }

    /// - Parameter text: starts with a slash; nil otherwise.
    public init?(_ text: String) {
        guard text.hasPrefix("/"), text.utf8.count > 1, !text.utf8.contains(where: { $0 < 0x20 }) else { return nil }
        self.text = text
        var elements: [Element] = []
        for byte in text.utf8.dropFirst() {
            switch byte {
            case UInt8(ascii: "*"):
                if elements.last == .star {
                    elements[elements.count - 1] = .deepStar
                } else if elements.last != .deepStar {
                    elements.append(.star)
                }
            case UInt8(ascii: "?"): elements.append(.any)
            default: elements.append(.byte(byte))
            }
        }
        let isDirectory = text.hasSuffix("/")
        literal = (isDirectory ? elements.dropLast() : elements[...]).prefix { $0.byte != nil }.compactMap(\.byte)
        // "/usr/share/doc/" names the directory, too.
        directory = isDirectory ? Array(elements.dropLast()) : nil
        if isDirectory { elements.append(.deepStar) }
        self.elements = elements
    }

    /// - Parameter path: of a tree, without a leading slash.
    public func matches(_ path: String) -> Bool {
        // Almost every path fails here: thousands of paths are compared with dozens of patterns.
        var path = path
        let isCandidate = path.withUTF8 { bytes in
            literal.withUnsafeBytes { literal in
                guard let start = bytes.baseAddress, let wanted = literal.baseAddress else { return literal.isEmpty }
                return bytes.count >= literal.count && memcmp(start, wanted, literal.count) == 0
            }
        }
        guard isCandidate else { return false }
        let bytes = Array(path.utf8)
        return Self.matches(bytes, elements) || directory.map { Self.matches(bytes, $0) } ?? false
    }

    /// Iterative with one point to return to for each kind of star: linear in practice.
    private static func matches(_ bytes: [UInt8], _ elements: [Element]) -> Bool {
        var position = 0
        var element = elements.startIndex
        var star: (element: Int, position: Int)?
        var deep: (element: Int, position: Int)?
        while true {
            if element == elements.endIndex {
                if position == bytes.count { return true }
            } else {
                switch elements[element] {
                case .byte(let byte) where position < bytes.count && bytes[position] == byte:
                    position += 1
                    element += 1
                    continue
                case .any where position < bytes.count && bytes[position] != UInt8(ascii: "/"):
                    position += 1
                    element += 1
                    continue
                case .star:
                    star = (element, position)
                    element += 1
                    continue
                case .deepStar:
                    deep = (element, position)
                    star = nil
                    element += 1
                    continue
                default: break
                }
            }
            if let point = star, point.position < bytes.count, bytes[point.position] != UInt8(ascii: "/") {
                star = (point.element, point.position + 1)
                (element, position) = (point.element + 1, point.position + 1)
            } else if let point = deep, point.position < bytes.count {
                star = nil
                deep = (point.element, point.position + 1)
                (element, position) = (point.element + 1, point.position + 1)
            } else {
                return false
            }
        }
    }
}

extension PathPattern {
    static var shape: Shape<PathPattern> {
        .scalar("an absolute path; * matches within a component, ** any number of them, a slash at the end all below") {
            PathPattern($0.text)
        }
    }
}
