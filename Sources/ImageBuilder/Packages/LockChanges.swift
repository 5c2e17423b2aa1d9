import Documents

/// What a relock changed: packages, numbers of system users, and effects.
public struct LockChanges: Sendable, Hashable {
    public struct Package: Sendable, Hashable {
        /// A hardware profile's name, `tools` or `reference`.
        public var section: String
        public var name: String
        /// The versions; nil where the lock has none.
        public var from, to: String?
    }

    public struct Number: Sendable, Hashable {
        public var user: String
        public var number: Int
    }

    /// A line of the file of effects.
    public struct Effect: Sendable, Hashable {
        public enum Kind: String, Sendable { case effect, alternative, unresolved, diversion }

        public var kind: Kind
        /// Of an effect.
        public var package: String?
        public var isAdded: Bool
        /// As the file of effects has it, or in words.
        public var text: String

        var line: String {
            let subject =
                switch kind {
                case .effect: "effects of \(package ?? "")"
                case .alternative: "alternatives"
                case .unresolved: "unresolved on Debian as well"
                case .diversion: "diversions"
                }
            return "\(subject): \(isAdded ? "+" : "-") \(text)"
        }
    }

    public var packages: [Package] = []
    public var users: [Number] = []
    public var effects: [Effect] = []

    /// For people: one line a change; none where nothing changed.
    public var lines: [String] {
        packages.map { package in
            switch (package.from, package.to) {
            case (nil, let to): "\(package.section): + \(package.name) \(to ?? "")"
            case (let from?, nil): "\(package.section): - \(package.name) \(from)"
            case (let from?, let to?):
                "\(package.section): \(package.name) \(from) → \(to)"
                    + (from == to ? " (the same version, another file)" : "")
            }
        } + users.map { "users: + \($0.user) \($0.number)" } + effects.map(\.line)
    }

    /// For programs.
    public var json: [String: JSON] {
        func text(_ value: String?) -> JSON { value.map { .text($0) } ?? .null }
        return [
            "packages": .list(
                packages.map {
                    ["section": .text($0.section), "name": .text($0.name), "from": text($0.from), "to": text($0.to)]
                }),
            "users": .list(users.map { ["name": .text($0.user), "number": .integer($0.number)] }),
            "effects": .list(
                effects.map {
                    [
                        "kind": .text($0.kind.rawValue), "package": text($0.package),
                        "change": $0.isAdded ? "added" : "removed", "text": .text($0.text),
                    ]
                }),
        ]
    }
}
