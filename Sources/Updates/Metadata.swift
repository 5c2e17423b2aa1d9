import Digests
import Documents

/// What all roles' metadata have in common, read and not yet trusted.
public struct Metadata: Sendable {
    /// As it came.
    public let bytes: [UInt8]
    /// `root`, `timestamp`, `snapshot` or `targets`.
    public let type: String
    public let version: Int
    /// Seconds since 1970.
    public let expires: Int
    /// What is signed; keys that nobody here knows included.
    public let signed: JSON
    private let signatures: [(key: String, value: String)]

    /// Reads a file, which may be hostile.
    public init(_ bytes: [UInt8], name: String, type: String) throws(UpdateFailure) {
        let json: JSON
        do { json = try JSON.parse(bytes) } catch { throw UpdateFailure(.malformed, name, "not JSON: \(error)") }
        func wrong(_ what: String) -> UpdateFailure { UpdateFailure(.malformed, name, what) }
        guard let signed = json["signed"], let list = json["signatures"]?.list else {
            throw wrong("neither signed nor signatures")
        }
        guard let found = signed["_type"]?.text, found == type else {
            throw wrong("metadata of the kind \(signed["_type"]?.text ?? "none"), expected is \(type)")
        }
        let specification = (signed["spec_version"]?.text ?? "").split(separator: ".")
        guard (2...3).contains(specification.count), specification[0] == "1" else {
            throw wrong("spec_version \(signed["spec_version"]?.text ?? "none"), allowed is 1")
        }
        guard let version = signed["version"]?.integer, version > 0 else { throw wrong("no version above 0") }
        guard let expires = signed["expires"]?.text.flatMap(UTC.seconds) else { throw wrong("no date at expires") }
        var signatures: [(key: String, value: String)] = []
        for item in list {
            guard let key = item["keyid"]?.text, let value = item["sig"]?.text else { throw wrong("half a signature") }
            guard !signatures.contains(where: { $0.key == key }) else { throw wrong("two signatures of one key") }
            signatures.append((key, value))
        }
        self.bytes = bytes
        self.type = type
        self.version = version
        self.expires = expires
        self.signed = signed
        self.signatures = signatures
    }

    /// Throws unless as many of the role's keys signed this as its delegator wants.
    public func verify(by role: Role, name: String) throws(UpdateFailure) {
        let text = signed.canonical
        // The same key under two names, or by two schemes, is one.
        var valid: Set<[UInt8]> = []
        for signature in signatures {
            guard let key = role.keys[signature.key], !valid.contains(key.encoded),
                key.verifies(signature.value, over: text)
            else { continue }
            valid.insert(key.encoded)
        }
        guard valid.count >= role.threshold else {
            throw UpdateFailure(
                .signature, name, "\(valid.count) valid signatures of its keys, \(role.threshold) are needed")
        }
    }
}

/// Who may sign for a role, and how many of them have to.
public struct Role: Sendable, Hashable {
    /// By their identifiers; those of unknown kinds are left out.
    public var keys: [String: PublicKey]
    public var threshold: Int

    public init(_ json: JSON, keys all: [String: JSON], name: String) throws(UpdateFailure) {
        guard let names = json["keyids"]?.list?.map(\.text), !names.contains(nil),
            let threshold = json["threshold"]?.integer,
            threshold > 0
        else { throw UpdateFailure(.malformed, name, "a role without keyids and a threshold above 0") }
        let identifiers = names.compactMap { $0 }
        guard Set(identifiers).count == identifiers.count else {
            throw UpdateFailure(.malformed, name, "a role that names a key twice")
        }
        keys = [:]
        self.threshold = threshold
        for identifier in identifiers {
            // A role may name a key that nobody lists: it counts for nothing.
            if let key = all[identifier].flatMap(PublicKey.init) { keys[identifier] = key }
        }
    }
}

/// What is said of a file: of metadata its version, of targets their length and hashes.
public struct FileMeta: Sendable, Hashable {
    public var version: Int?
    /// Bytes.
    public var length: Int?
    /// Hexadecimal digits, by algorithm.
    public var hashes: [String: String]
    /// What is signed beside them; null without it.
    public var custom: JSON = .null

    /// For what checks by this one alone.
    public var sha256: Digest? { hashes["sha256"].flatMap { Digest(hex: $0.lowercased()) } }

    init(_ json: JSON, name: String, isTarget: Bool) throws(UpdateFailure) {
        version = json["version"]?.integer
        length = json["length"]?.integer
        custom = json["custom"] ?? .null
        hashes = [:]
        for (algorithm, value) in json["hashes"]?.object ?? [:] {
            guard let text = value.text else { throw UpdateFailure(.malformed, name, "a hash that is no text") }
            hashes[algorithm] = text
        }
        if isTarget {
            guard let length, length >= 0, !hashes.isEmpty else {
                throw UpdateFailure(.malformed, name, "a target without length and hashes")
            }
        } else {
            guard let version, version > 0, length.map({ $0 >= 0 }) ?? true else {
                throw UpdateFailure(.malformed, name, "metadata without a version above 0")
            }
        }
    }

    /// Throws unless `bytes` are what is said.
    func check(_ bytes: [UInt8], name: String) throws(UpdateFailure) {
        if let length, bytes.count != length {
            throw UpdateFailure(.mismatch, name, "\(bytes.count) bytes, \(length) are signed")
        }
        var check = HashCheck()
        for algorithm in hashes.keys.sorted() { try check.begin(algorithm, name: name) }
        check.update(bytes)
        try check.finish(hashes, name: name)
    }
}
