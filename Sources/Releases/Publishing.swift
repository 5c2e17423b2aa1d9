import Digests
import Documents
import Files
import Updates

/// From a change to signatures, from enough of them to files that boxes read.
extension ReleaseRepository {
    func pending() throws -> [String: SignedDocument] {
        let names = (try? FileSystem.list("\(folder)/unsigned")) ?? []
        var found: [String: SignedDocument] = [:]
        for name in names where name.hasSuffix(".json") && !name.hasPrefix(".") {
            let role = String(name.dropLast(5))
            found[role] = try SignedDocument(role, try FileSystem.read("\(folder)/unsigned/\(name)"))
        }
        return found
    }

    func refuseWhileWaiting() throws {
        let waiting = try pending()
        guard waiting.isEmpty else {
            throw ReleaseFailure(
                "a change of \(waiting.keys.sorted().joined(separator: ", ")) waits for signatures",
                hint: "vcpe release sign \(folder) --keys FOLDER, or vcpe release discard \(folder)")
        }
    }

    /// Forgets a change that waits for signatures.
    public static func discard(_ folder: String) throws {
        guard FileSystem.exists("\(folder)/unsigned") else {
            throw ReleaseFailure("nothing waits for signatures in \(folder)")
        }
        try FileSystem.remove("\(folder)/unsigned")
    }

    /// Adds the signatures of keys at hand to what waits, and publishes it once there are enough.
    public static func sign(_ folder: String, with keys: KeyFolder, now: Int) throws -> Outcome {
        var repository =
            FileSystem.exists("\(folder)/metadata")
            ? try ReleaseRepository(folder, now: now) : try ReleaseRepository(empty: folder, now: now)
        let waiting = try repository.pending()
        guard !waiting.isEmpty else { throw ReleaseFailure("nothing waits for signatures in \(folder)") }
        for (role, document) in waiting { repository.documents[role] = document }
        return try repository.finish(waiting.keys.sorted(), keys)
    }

    /// Gives the named roles' metadata their next version, signs them with what is at hand, and publishes all or keeps all waiting.
    mutating func commit(_ roles: [String], _ keys: KeyFolder, days: Int? = nil) throws -> Outcome {
        for role in roles {
            let expires = expiry(role, days: days)
            documents[role]?.renew(expires: expires)
        }
        return try finish(roles, keys)
    }

    private mutating func finish(_ roles: [String], _ keys: KeyFolder) throws -> Outcome {
        var waiting: [String: Int] = [:]
        for role in roles {
            guard var document = documents[role] else { continue }
            for signers in signersOf(role) { try document.sign(signers.identifiers, keys) }
            documents[role] = document
            let missing = missing(document)
            if missing > 0 { waiting[role] = missing }
        }
        guard waiting.isEmpty else {
            try FileSystem.makeDirectory("\(folder)/unsigned")
            for role in roles {
                try FileSystem.replace("\(folder)/unsigned/\(role).json", with: documents[role]?.bytes ?? [])
            }
            return .waiting(waiting)
        }
        try publish(roles, keys)
        trustedRoot = documents["root"]
        try FileSystem.remove("\(folder)/unsigned")
        return .published
    }

    private func signersOf(_ role: String) -> [Signers] {
        var list = [signers(role)].compactMap { $0 }
        // Boxes take a root that those sign whom they trust already.
        if role == "root", let old = Signers(trustedRoot?.signed["roles"]?["root"]) { list.append(old) }
        return list
    }

    func missing(_ document: SignedDocument) -> Int {
        signersOf(document.role).map { $0.missing(document) }.max() ?? 0
    }

    private mutating func publish(_ roles: [String], _ keys: KeyFolder) throws {
        var files: [String: [UInt8]] = [:]
        var meta = documents["snapshot"]?.signed["meta"]?.object ?? [:]
        for role in roles {
            guard let document = documents[role] else { continue }
            files["\(document.version).\(role).json"] = document.bytes
            if role != "root" { meta["\(role).json"] = Self.meta(document) }
        }
        documents["snapshot"]?.signed["meta"] = .object(meta)
        for role in Self.online {
            if role == "timestamp", let snapshot = documents["snapshot"] {
                documents[role]?.signed["meta"] = ["snapshot.json": Self.meta(snapshot)]
            }
            guard var document = documents[role], let signers = signers(role) else { continue }
            document.renew(expires: expiry(role))
            try document.sign(signers.identifiers, keys)
            guard signers.missing(document) == 0 else {
                throw ReleaseFailure(
                    "\(signers.missing(document)) keys of \(role) are missing, which every change needs",
                    hint: "--keys may be given several times: also the folder of the online keys")
            }
            documents[role] = document
            files[role == "timestamp" ? "timestamp.json" : "\(document.version).\(role).json"] = document.bytes
        }
        try check(files)
        try FileSystem.makeDirectory("\(folder)/metadata")
        try FileSystem.makeDirectory("\(folder)/targets")
        for (name, bytes) in files.sorted(by: { $0.key < $1.key }) where name != "timestamp.json" {
            try FileSystem.replace("\(folder)/metadata/\(name)", with: bytes)
        }
        try FileSystem.syncDirectory("\(folder)/metadata")
        if let timestamp = files["timestamp.json"] {
            try FileSystem.replace("\(folder)/metadata/timestamp.json", with: timestamp)
        }
        try FileSystem.syncDirectory("\(folder)/metadata")
    }

    private static func meta(_ document: SignedDocument) -> JSON {
        let bytes = document.bytes
        return [
            "version": .integer(document.version), "length": .integer(bytes.count),
            "hashes": ["sha256": .text(SHA256.hash(bytes).hex)],
        ]
    }

    /// Reads the new repository as a box would that knows its first root.
    private func check(_ files: [String: [UInt8]]) throws {
        let place = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-release")
        defer { try? FileSystem.remove(place) }
        let source = Candidate(folder: "\(folder)/metadata", files: files)
        guard let root = try source.read("1.root.json", most: 1 << 20) else {
            throw ReleaseFailure("there is no first root")
        }
        try UpdateClient.initialize(place, root: root)
        var client = try UpdateClient(folder: place, source: source, now: now)
        do {
            try client.refresh()
            // Each channel is read, though nobody has that file.
            for channel in channels {
                do { _ = try client.find("\(channel)/a/b/c/d") } catch {
                    // A channel that was stopped, or that nobody looks after, is no reason to keep others from changing.
                    if error.reason != .unknownTarget, error.reason != .expired { throw error }
                }
            }
        } catch {
            throw ReleaseFailure("a box would refuse this: \(error)")
        }
    }

    /// What would be published, over what is.
    private struct Candidate: MetadataSource {
        var folder: String
        var files: [String: [UInt8]]

        func read(_ file: String, most: Int, isLikely: Bool) throws(UpdateFailure) -> [UInt8]? {
            let bytes = files[file] ?? (try? FileSystem.read("\(folder)/\(file)"))
            if let bytes, bytes.count > most {
                throw UpdateFailure(.tooLong, file, "\(bytes.count) bytes, \(most) are allowed")
            }
            return bytes
        }
    }
}
