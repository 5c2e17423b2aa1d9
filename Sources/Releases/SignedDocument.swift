import Documents

/// Metadata of a role, with the signatures that it has so far.
struct SignedDocument {
    var role: String
    var signed: [String: JSON]
    /// By key.
    var signatures: [String: String] = [:]

    init(_ role: String, _ signed: [String: JSON]) {
        self.role = role
        self.signed = signed
    }

    init(_ role: String, _ bytes: [UInt8]) throws {
        let json = try JSON.parse(bytes)
        guard let signed = json["signed"]?.object, let list = json["signatures"]?.list else {
            throw ReleaseFailure("the metadata of \(role) are damaged")
        }
        self.init(role, signed)
        for item in list { if let key = item["keyid"]?.text { signatures[key] = item["sig"]?.text } }
    }

    var version: Int { signed["version"]?.integer ?? 0 }

    var bytes: [UInt8] {
        let list = signatures.sorted { $0.key < $1.key }.map {
            ["keyid": .text($0.key), "sig": .text($0.value)] as JSON
        }
        return Array((["signed": .object(signed), "signatures": .list(list)] as JSON).line.utf8)
    }

    /// Its next version, which nobody has signed yet.
    mutating func renew(expires: String) {
        signed["version"] = .integer(version + 1)
        signed["expires"] = .text(expires)
        signatures = [:]
    }

    /// Adds the signatures of those of `identifiers` that are at hand.
    mutating func sign(_ identifiers: [String], _ keys: KeyFolder) throws {
        let text = JSON.object(signed).canonical
        for identifier in identifiers { if let key = keys[identifier] { signatures[identifier] = try key.sign(text) } }
    }
}

/// Keys of a role, and how many of them must sign.
struct Signers {
    var identifiers: [String]
    var threshold: Int

    init?(_ json: JSON?) {
        guard let names = json?["keyids"]?.list, let threshold = json?["threshold"]?.integer else { return nil }
        identifiers = names.compactMap(\.text)
        self.threshold = threshold
    }

    init(_ keys: [JSON], threshold: Int) {
        identifiers = keys.map(SigningKey.identifier(of:))
        self.threshold = threshold
    }

    var json: [String: JSON] { ["keyids": .texts(identifiers), "threshold": .integer(threshold)] }

    func missing(_ document: SignedDocument) -> Int {
        max(0, threshold - identifiers.filter { document.signatures[$0] != nil }.count)
    }
}
