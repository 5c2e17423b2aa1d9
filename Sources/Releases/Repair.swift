import Digests
import Documents
import Files
import Updates

extension ReleaseRepository {
    /// The result of a repair.
    public struct Repair: Sendable, Hashable {
        /// Files that could not be used, by path, with the reason.
        public var damaged: [String: String]
        /// Versions of the roles in the new snapshot.
        public var versions: [String: Int]
    }

    /// Recreates snapshot and timestamp from the newest intact version of each other role.
    ///
    /// The new versions are above every version in the folder, even in a damaged `timestamp.json`,
    /// because boxes refuse versions below those that they have seen.
    ///
    /// - Parameter keys: the online keys.
    /// - Throws: ``ReleaseFailure`` for a role without an intact version. Only its signers could
    ///   replace it, so the file must be copied from a mirror or a backup.
    public static func repair(
        _ folder: String, root: [UInt8]? = nil, signing keys: KeyFolder, now: Int
    ) throws -> Repair {
        var repository = try ReleaseRepository(empty: folder, now: now)
        var damaged: [String: String] = [:]
        let metadata = "\(folder)/metadata"
        let names = try FileSystem.list(metadata)

        /// The newest version of a role that parses and has enough signatures.
        func newest(_ role: String) throws -> SignedDocument? {
            let versions = names.compactMap { name -> Int? in
                name.hasSuffix(".\(role).json") ? Int(name.dropLast(".\(role).json".count)) : nil
            }
            for version in versions.sorted(by: >) {
                let path = "\(metadata)/\(version).\(role).json"
                do {
                    let document = try SignedDocument(role, file: path)
                    if document.version == version, let authority = repository.authority(role),
                        authority.missing(document) == 0
                    {
                        return document
                    }
                    damaged[path] = "wrong version or too few signatures"
                } catch let failure as ReleaseFailure {
                    damaged[path] = failure.message
                }
            }
            return nil
        }

        guard let newestRoot = try roots(in: folder).last else {
            throw ReleaseFailure.damaged(
                "\(metadata)/1.root.json", "the file is missing", hint: "copy it from a mirror, a backup or an image")
        }
        // A damaged root must not be skipped, because boxes may trust it already.
        repository.documents["root"] = try SignedDocument("root", file: "\(metadata)/\(newestRoot).root.json")
        for role in ["targets"] {
            guard let document = try newest(role) else { throw lost(role, folder, damaged) }
            repository.documents[role] = document
        }
        for channel in repository.channels {
            guard let document = try newest(channel) else { throw lost(channel, folder, damaged) }
            repository.documents[channel] = document
        }
        let seen = names.compactMap { name -> Int? in
            name.hasSuffix(".snapshot.json") ? Int(name.dropLast(".snapshot.json".count)) : nil
        }
        let timestamp = (try? FileSystem.read("\(metadata)/timestamp.json")) ?? []
        let next = max(seen.max() ?? 0, version(inDamaged: timestamp))
        if timestamp.isEmpty || (try? SignedDocument("timestamp", timestamp, file: "")) == nil {
            damaged["\(metadata)/timestamp.json"] = "missing or not metadata"
        }
        var meta: [String: JSON] = [:]
        for (role, document) in repository.documents where !(online + ["root"]).contains(role) {
            meta["\(role).json"] = Self.meta(document)
        }
        repository.documents["snapshot"]?.signed["meta"] = .object(meta)
        for role in online { repository.documents[role]?.signed["version"] = .integer(next) }
        repository.published = repository.documents
        let files = try repository.filesToPublish([], keys)
        try repository.checkAsBox(files, root: root, now: now)
        try write(files, to: folder)
        return Repair(damaged: damaged, versions: repository.documents.mapValues(\.version))
    }

    private static func lost(_ role: String, _ folder: String, _ damaged: [String: String]) -> ReleaseFailure {
        let file = damaged.keys.sorted().last { $0.hasSuffix(".\(role).json") } ?? "\(folder)/metadata/1.\(role).json"
        return ReleaseFailure.damaged(
            file, damaged[file] ?? "the file is missing",
            hint: "copy the file from a mirror or a backup: only the keys of \(role) can sign another one")
    }

    /// The largest number after `"version":` in bytes that need not be valid JSON.
    private static func version(inDamaged bytes: [UInt8]) -> Int {
        var most = 0
        for part in String(decoding: bytes, as: UTF8.self).split(separator: "\"version\":").dropFirst() {
            if let number = Int(part.drop { $0 == " " }.prefix { $0.isNumber }), number < 1 << 53 {
                most = max(most, number)
            }
        }
        return most
    }
}
