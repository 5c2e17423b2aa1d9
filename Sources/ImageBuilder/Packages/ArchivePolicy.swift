import Documents
import Files

/// What apt knows of the indexes of its sources, as `apt-cache policy` prints it: where each is
/// from, and the fields of its Release file.
struct ArchivePolicy {
    /// One component of one suite.
    struct Index: Hashable {
        /// As ``PackageSource/canonical(_:)`` gives it.
        var url: String
        /// `SUITE/COMPONENT`; the directory of a flat repository.
        var place: String
        /// By the letter that apt_preferences(5) gives a field: o, a, n, l, c.
        var release: [String: String] = [:]
        /// As apt matches `Pin: origin`: empty for a file.
        var host = ""
    }

    /// Of `apt-cache policy` without packages.
    private(set) var indexes: [Index] = []
    /// Of `apt-cache policy NAME …`: the indexes that have a version of a package. A key is the
    /// package's name, a blank and the version.
    private(set) var versions: [String: [Index]] = [:]

    /// Fields that select an index, in the order in which a pin names them. `v` and `b` say nothing
    /// of the archive.
    private static let fields = ["o", "a", "n", "l", "c"]

    init(_ text: String) {
        var package = ""
        var version: String?
        // Other files than indexes have such lines as well.
        var isIndex = false
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            if line.first != " " {
                (package, version) = (String(line.dropLast(line.hasSuffix(":") ? 1 : 0)), nil)
            } else if words.count >= 2, Int(words[0]) != nil {
                isIndex = words.count >= 4 && words.last == "Packages"
                guard isIndex else { continue }
                let index = Index(url: PackageSource.canonical(words[1]), place: words[2])
                if let version { versions["\(package) \(version)", default: []].append(index) }
                if version == nil { indexes.append(index) }
            } else if words.count >= 2, words[0] == "release", isIndex, !indexes.isEmpty {
                indexes[indexes.count - 1].release = Self.release(line.drop { $0 == " " }.dropFirst("release ".count))
            } else if words.count == 2, words[0] == "origin", isIndex, !indexes.isEmpty {
                indexes[indexes.count - 1].host = words[1]
            } else if words.first == "***", words.count == 3 {
                version = words[1]
            } else if line.hasPrefix("     "), words.count == 2, Int(words[1]) != nil {
                version = words[0]
            }
        }
    }

    /// `v=13,o=Debian,l=A label, with a comma,c=main`.
    private static func release(_ text: Substring) -> [String: String] {
        var parts: [String] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let isField = part.dropFirst().first == "=" && part.first?.isLetter == true
            if isField || parts.isEmpty { parts.append(String(part)) } else { parts[parts.count - 1] += ",\(part)" }
        }
        return Dictionary(parts.map { (String($0.prefix(1)), String($0.dropFirst(2))) }) { $1 }.filter {
            !$0.value.isEmpty
        }
    }

    // MARK: - Pins

    /// Stanzas of apt_preferences(5) for the pins of all sources. Each selects the indexes of its
    /// own source, and no others.
    ///
    /// - Throws: `InvalidDocument` where apt can't tell the indexes of a source from those of
    ///   another.
    func preferences(_ sources: [PackageSource]) throws -> String {
        var text = ""
        for source in sources {
            var selectors: [String] = []
            for index in indexes where !source.pins.isEmpty && source.has(index) {
                let selector = try selector(of: index, in: source, among: sources)
                if !selectors.contains(selector) { selectors.append(selector) }
            }
            for pin in source.pins {
                let names = pin.packages.isEmpty ? "*" : pin.packages.joined(separator: " ")
                for selector in selectors {
                    text += "Package: \(names)\nPin: \(selector)\nPin-Priority: \(pin.priority)\n\n"
                }
            }
        }
        return text
    }

    private func selector(of index: Index, in source: PackageSource, among sources: [PackageSource]) throws -> String {
        let others = indexes.filter { other in
            !source.has(other) && sources.contains { $0.has(other) }
        }
        // A comma ends a field of a pin.
        let fields = Self.fields.filter { index.release[$0].map { !$0.contains(",") } ?? false }
        func isSame(_ other: Index) -> Bool { fields.allSatisfy { other.release[$0] == index.release[$0] } }
        if !fields.isEmpty, !others.contains(where: isSame) {
            return "release " + fields.map { "\($0)=\(index.release[$0] ?? "")" }.joined(separator: ",")
        }
        // Without such fields the server's name may do.
        guard let other = others.first(where: { $0.host == index.host }) else { return "origin \"\(index.host)\"" }
        let twin = sources.first { $0.has(other) }?.name ?? other.url
        let message =
            "apt can't tell the archive \(source.name) from \(twin): both have the Release fields and the server"
        let hint = "give the archive's Release file an Origin, Label or Codename of its own, or take its pin out"
        guard let position = source.position else { throw BuildFailure(message, hint: hint) }
        throw InvalidDocument([Problem(position: position, path: "archives", message: message, hint: hint)])
    }
}
