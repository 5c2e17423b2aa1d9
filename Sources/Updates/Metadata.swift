import Digests
import Documents

/// The fields that the metadata of all roles has, parsed and not yet trusted.
public struct Metadata: Sendable {
    /// The bytes as they were received.
    public let bytes: [UInt8]
    /// `root`, `timestamp`, `snapshot`, `targets` or `director`.
    public let type: String
    public let version: Int
    /// Seconds since 1970.
    public let expires: Int
    /// The signed part, including unknown fields.
    public let signed: JSON
    private let signatures: [(key: String, value: String)]

    /// The highest accepted version. Otherwise a mistake or a stolen key could use up all numbers,
    /// and `version + 1` would overflow.
    static let mostVersion = 1 << 53

    /// Reads a file, which may be hostile.
    public init(_ bytes: [UInt8], name: String, type: String) throws(UpdateFailure) {
        let json: JSON
        do { json = try JSON.parse(bytes) } catch { throw UpdateFailure(.malformed, name, "not JSON: \(error)") }
        func wrong(_ what: String) -> UpdateFailure { UpdateFailure(.malformed, name, what) }
        guard let signed = json["signed"], let list = json["signatures"]?.list else {
            throw wrong("signed or signatures is missing")
        }
        guard let found = signed["_type"]?.text, found == type else {
            throw wrong("the type is \(signed["_type"]?.text ?? "missing"), expected is \(type)")
        }
        let specification = (signed["spec_version"]?.text ?? "").split(separator: ".")
        guard (2...3).contains(specification.count), specification[0] == "1" else {
            throw wrong("spec_version is \(signed["spec_version"]?.text ?? "missing"), allowed is 1")
        }
        guard let version = signed["version"]?.integer, (1...Self.mostVersion).contains(version) else {
            throw wrong("the version is not a number from 1 to \(Self.mostVersion)")
        }
        guard let expires = signed["expires"]?.text.flatMap(UTC.seconds) else { throw wrong("expires is not a date") }
        var signatures: [(key: String, value: String)] = []
        for item in list {
            guard let key = item["keyid"]?.text, let value = item["sig"]?.text else {
                throw wrong("a signature without keyid or sig")
            }
            guard !signatures.contains(where: { $0.key == key }) else { throw wrong("two signatures with one keyid") }
            signatures.append((key, value))
        }
        self.bytes = bytes
        self.type = type
        self.version = version
        self.expires = expires
        self.signed = signed
        self.signatures = signatures
    }

    /// Checks that enough different keys of the role signed this.
    ///
    /// - Throws: ``UpdateFailure`` with the reason `signature` below the threshold.
    public func verify(by role: SigningRole, name: String) throws(UpdateFailure) {
        let text = signed.canonical
        // One key under two identifiers counts once.
        var valid: Set<[UInt8]> = []
        for signature in signatures {
            guard let key = role.keys[signature.key], !valid.contains(key.encoded),
                key.verifies(signature.value, over: text)
            else { continue }
            valid.insert(key.encoded)
        }
        guard valid.count >= role.threshold else {
            throw UpdateFailure(
                .signature, name, "\(valid.count) valid signatures of different keys, \(role.threshold) are needed")
        }
    }
}

/// The keys of a role, and how many of them must sign.
public struct SigningRole: Sendable, Hashable {
    /// By identifier; keys of unknown schemes are left out.
    public var keys: [String: PublicKey]
    public var threshold: Int

    public init(_ json: JSON, keys all: [String: JSON], name: String) throws(UpdateFailure) {
        guard let names = json["keyids"]?.list?.map(\.text), !names.contains(nil),
            let threshold = json["threshold"]?.integer,
            threshold > 0
        else { throw UpdateFailure(.malformed, name, "a role without keyids and a threshold above 0") }
        let identifiers = names.compactMap { $0 }
        guard Set(identifiers).count == identifiers.count else {
            throw UpdateFailure(.malformed, name, "a role with one keyid twice")
        }
        keys = [:]
        self.threshold = threshold
        for identifier in identifiers {
            // A role may refer to a key that is not listed; such a key is ignored.
            if let key = all[identifier].flatMap(PublicKey.init) { keys[identifier] = key }
        }
    }
}

/// The signed description of a file: the version of metadata, length and hashes of a target.
public struct FileMeta: Sendable, Hashable {
    public var version: Int?
    /// Bytes.
    public var length: Int?
    /// Hexadecimal digits, by algorithm name.
    public var hashes: [String: String]
    /// The field `custom`; null without it.
    public var custom: JSON = .null

    /// The hash for callers that check only this one.
    public var sha256: Digest? { hashes["sha256"].flatMap { Digest(hex: $0.lowercased()) } }

    init(_ json: JSON, name: String, isTarget: Bool) throws(UpdateFailure) {
        version = json["version"]?.integer
        length = json["length"]?.integer
        custom = json["custom"] ?? .null
        hashes = [:]
        for (algorithm, value) in json["hashes"]?.object ?? [:] {
            guard let text = value.text else { throw UpdateFailure(.malformed, name, "a hash that is not text") }
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

    /// - Throws: ``UpdateFailure`` unless length and hashes of `bytes` are the signed ones.
    func check(_ bytes: [UInt8], name: String) throws(UpdateFailure) {
        if let length, bytes.count != length {
            throw UpdateFailure(.mismatch, name, "\(bytes.count) bytes, signed are \(length)")
        }
        var check = HashCheck()
        for algorithm in hashes.keys.sorted() { try check.begin(algorithm, name: name) }
        check.update(bytes)
        try check.finish(hashes, name: name)
    }
}
