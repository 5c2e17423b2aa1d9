import Documents
import Updates

/// The keys of a role and its threshold, as root and targets list them (TUF 1.0, section 4.3).
struct RoleKeys: Hashable {
    var identifiers: [String]
    /// How many different keys must sign.
    var threshold: Int

    /// Nil for JSON that does not describe a role.
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

    /// How many valid signatures of different keys are still missing.
    ///
    /// - Parameter keys: the public keys, by identifier.
    func missing(_ document: SignedDocument, keys: [String: JSON]) -> Int {
        let text = JSON.object(document.signed).canonical
        var valid: Set<[UInt8]> = []
        for identifier in identifiers {
            guard let signature = document.signatures[identifier], let key = keys[identifier].flatMap(PublicKey.init),
                key.verifies(signature, over: text)
            else { continue }
            valid.insert(key.encoded)
        }
        return max(0, threshold - valid.count)
    }

    /// Checks that the threshold can be met.
    ///
    /// - Parameter keys: the public keys, by identifier.
    /// - Throws: ``ReleaseFailure`` for a threshold below 1 or above the number of different keys,
    ///   and for one key that is listed twice, under any identifiers.
    func check(_ role: String, keys: [String: JSON]) throws(ReleaseFailure) {
        var known: [[UInt8]: String] = [:]
        for identifier in identifiers {
            guard let key = keys[identifier].flatMap(PublicKey.init) else {
                throw ReleaseFailure(
                    "\(role): the key \(identifier.prefix(12)) is not listed, or its scheme is unknown",
                    hint: "give a .pub file that vcpe release key made")
            }
            if let first = known.updateValue(identifier, forKey: key.encoded) {
                let listed = first == identifier ? "twice" : "as \(first.prefix(12)) and as \(identifier.prefix(12))"
                throw ReleaseFailure(
                    "\(role): the same key is listed \(listed); each key counts once",
                    hint: "give each signer a different key")
            }
        }
        guard threshold >= 1, threshold <= known.count else {
            throw ReleaseFailure(
                "\(role): the threshold is \(threshold) of \(known.count) keys, allowed is 1 to \(known.count)",
                hint: "add keys, or lower the threshold")
        }
    }
}
