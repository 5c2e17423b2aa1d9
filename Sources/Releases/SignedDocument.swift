import Documents
import Files

/// Metadata of a role, with the signatures that it has so far.
struct SignedDocument {
    var role: String
    /// The part that is signed.
    var signed: [String: JSON]
    /// Hexadecimal signatures, by key identifier.
    var signatures: [String: String] = [:]

    init(_ role: String, _ signed: [String: JSON]) {
        self.role = role
        self.signed = signed
    }

    /// Reads a file.
    ///
    /// - Throws: ``ReleaseFailure``, with the file's path, for a file that is not metadata.
    init(_ role: String, file: String) throws {
        try self.init(role, try FileSystem.read(file), file: file)
    }

    /// - Parameter file: where the bytes come from, for errors.
    init(_ role: String, _ bytes: [UInt8], file: String) throws(ReleaseFailure) {
        let json: JSON
        do { json = try JSON.parse(bytes) } catch {
            throw ReleaseFailure.damaged(file, "\(error)")
        }
        guard let signed = json["signed"]?.object, let list = json["signatures"]?.list,
            signed["version"]?.integer != nil
        else { throw ReleaseFailure.damaged(file, "no signed part with a version, or no signatures") }
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

    /// Gives the document a version and an expiry date, and drops all signatures.
    mutating func renew(version: Int, expires: String) {
        signed["version"] = .integer(version)
        signed["expires"] = .text(expires)
        signatures = [:]
    }

    /// Adds the signatures of the available keys among `identifiers`.
    ///
    /// - Returns: the number of added signatures.
    mutating func sign(_ identifiers: [String], _ keys: KeyFolder) throws(ReleaseFailure) -> Int {
        let text = JSON.object(signed).canonical
        var added = 0
        for key in try keys.open(identifiers.filter { signatures[$0] == nil }) {
            signatures[key.identifier] = try key.sign(text)
            added += 1
        }
        return added
    }
}
