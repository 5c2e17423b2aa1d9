import Documents

/// The targets that a role signs for, and its delegations (TUF 1.0, section 4.5).
public struct Targets: Sendable {
    /// A role that this one delegates paths to.
    public struct Delegation: Sendable {
        enum Extent: Sendable {
            case patterns([String])
            /// The first digits of the SHA-256 digests of paths.
            case hashPrefixes([String])
        }

        public let name: String
        public let role: SigningRole
        /// Whether a search for a path that it covers ends with this role.
        public let isTerminating: Bool
        let extent: Extent

        func covers(_ path: String) -> Bool {
            switch extent {
            case .patterns(let patterns): patterns.contains { Pattern.matches(path, $0) }
            case .hashPrefixes(let prefixes): prefixes.contains { Pattern.digest(of: path).hasPrefix($0) }
            }
        }
    }

    /// Hash bins (TAP 15): roles that divide all targets by the first bits of their paths' hashes.
    struct Bins: Sendable {
        var role: SigningRole
        var bits: Int
        var prefix: String

        func name(for path: String) -> String {
            let first = UInt32(Pattern.digest(of: path).prefix(8), radix: 16) ?? 0
            let width = ((1 << bits) - 1).hexDigits.count
            let number = Int(first >> UInt32(32 - bits)).hexDigits
            return "\(prefix)-" + String(repeating: "0", count: width - number.count) + number
        }

        func contains(_ name: String) -> Bool {
            guard name.hasPrefix(prefix + "-") else { return false }
            let digits = name.dropFirst(prefix.count + 1)
            guard digits.count == ((1 << bits) - 1).hexDigits.count, let number = Int(digits, radix: 16) else {
                return false
            }
            return number < 1 << bits && digits == digits.lowercased()
        }
    }

    public let metadata: Metadata
    /// The targets by path.
    public let targets: [String: FileMeta]
    /// In the order in which they are searched.
    public private(set) var delegations: [Delegation] = []
    private var bins: Bins?

    public init(_ bytes: [UInt8], name: String) throws(UpdateFailure) {
        metadata = try Metadata(bytes, name: name, type: "targets")
        guard let listed = metadata.signed["targets"]?.object else {
            throw UpdateFailure(.malformed, name, "targets is missing")
        }
        var targets: [String: FileMeta] = [:]
        for (path, json) in listed {
            targets[path] = try FileMeta(json, name: "\(name), target \(path)", isTarget: true)
        }
        self.targets = targets
        guard let delegated = metadata.signed["delegations"], delegated != .null else { return }
        let keys = delegated["keys"]?.object ?? [:]
        if let json = delegated["succinct_roles"] {
            guard let bits = json["bit_length"]?.integer, (1...32).contains(bits),
                let prefix = json["name_prefix"]?.text
            else {
                throw UpdateFailure(
                    .malformed, name, "succinct_roles without a bit_length from 1 to 32 or without name_prefix")
            }
            bins = Bins(role: try SigningRole(json, keys: keys, name: name), bits: bits, prefix: prefix)
        }
        for json in delegated["roles"]?.list ?? [] {
            delegations.append(try Self.delegation(json, keys, name))
        }
        guard Set(delegations.map(\.name)).count == delegations.count else {
            throw UpdateFailure(.malformed, name, "it delegates to one role twice")
        }
    }

    private static func delegation(
        _ json: JSON, _ keys: [String: JSON], _ name: String
    ) throws(UpdateFailure) -> Delegation {
        guard let role = json["name"]?.text, !role.isEmpty, !TrustedMetadata.topLevel.contains(role),
            let isTerminating = json["terminating"]?.boolean
        else {
            throw UpdateFailure(
                .malformed, name,
                "a delegation without terminating, or whose name is missing or that of a top-level role")
        }
        let extent: Delegation.Extent
        switch (json["paths"]?.list, json["path_hash_prefixes"]?.list) {
        case (let paths?, nil): extent = .patterns(paths.compactMap(\.text))
        case (nil, let prefixes?): extent = .hashPrefixes(prefixes.compactMap(\.text))
        default:
            throw UpdateFailure(
                .malformed, name, "the delegation to \(role) has neither paths nor path_hash_prefixes, or both")
        }
        return Delegation(
            name: role, role: try SigningRole(json, keys: keys, name: name), isTerminating: isTerminating,
            extent: extent)
    }

    /// The roles that cover a path, in the order in which they are searched.
    public func delegated(_ path: String) -> [(name: String, isTerminating: Bool)] {
        if let bins { return [(bins.name(for: path), true)] }
        return delegations.filter { $0.covers(path) }.map { ($0.name, $0.isTerminating) }
    }

    /// The keys of a role that this one delegates to.
    func role(_ name: String) -> SigningRole? {
        if let bins, bins.contains(name) { return bins.role }
        return delegations.first { $0.name == name }?.role
    }
}

extension Int {
    fileprivate var hexDigits: String { String(self, radix: 16) }
}
