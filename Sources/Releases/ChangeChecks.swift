import Documents
import Files
import Updates

/// Checks before a key signs, and before a change is published.
extension ReleaseRepository {
    /// Checks that a change follows the published metadata, and that its thresholds can be met.
    ///
    /// - Throws: ``ReleaseFailure`` with the reason `doesNotFollow` for a wrong version, type,
    ///   expiry date or role, and for keys and thresholds that can never be met.
    func checkFollows(_ change: [String: SignedDocument]) throws(ReleaseFailure) {
        func refused(_ role: String, _ what: String) -> ReleaseFailure {
            ReleaseFailure(
                "\(folder)/unsigned/\(role).json: \(what)",
                hint: "sign nothing, find out who wrote the file, and vcpe release discard \(folder)",
                reason: .doesNotFollow, path: "\(folder)/unsigned/\(role).json")
        }
        for (role, document) in change.sorted(by: { $0.key < $1.key }) {
            guard !Self.online.contains(role), role == "root" || role == "targets" || channels.contains(role) else {
                throw refused(role, "\(role) is not root, targets or a channel of targets")
            }
            let last = published[role]?.version ?? 0
            guard document.version == last + 1 else {
                throw refused(role, "the version is \(document.version), published is \(last), allowed is \(last + 1)")
            }
            let type = TrustedMetadata.topLevel.contains(role) ? role : "targets"
            guard document.signed["_type"]?.text == type else {
                throw refused(role, "the type is \(document.signed["_type"]?.text ?? "missing"), allowed is \(type)")
            }
            // The review shows the period. Signers' clocks may differ, so one more day is allowed.
            let period = min(document.signed[Self.periodField]?.integer ?? self.period(role), Self.mostDays)
            guard let expires = document.signed["expires"]?.text.flatMap(UTC.seconds),
                expires <= now + 86_400 * (period + 1)
            else {
                throw refused(
                    role,
                    "the expiry date is \(document.signed["expires"]?.text ?? "missing"), allowed are at most "
                        + "\(period) days from now")
            }
            if role == "root", document.signed["consistent_snapshot"]?.boolean != true {
                throw refused(role, "consistent_snapshot is not true, so clients would request other file names")
            }
            let stray = (document.signed["targets"]?.object ?? [:]).keys.sorted().first { !$0.hasPrefix("\(role)/") }
            if let stray {
                throw refused(role, "the target \(stray) is not below \(role)/, so no box looks for it here")
            }
        }
        try checkRoles(in: change)
    }

    private func checkRoles(in change: [String: SignedDocument]) throws(ReleaseFailure) {
        if let root = change["root"]?.signed {
            for role in TrustedMetadata.topLevel {
                guard let keys = RoleKeys(root["roles"]?[role]) else {
                    throw ReleaseFailure(
                        "\(folder)/unsigned/root.json: the role \(role) is missing", reason: .doesNotFollow,
                        path: "\(folder)/unsigned/root.json")
                }
                try keys.check(role, keys: root["keys"]?.object ?? [:])
            }
        }
        guard let delegated = change["targets"]?.signed["delegations"] else { return }
        for json in delegated["roles"]?.list ?? [] {
            guard let name = json["name"]?.text, let keys = RoleKeys(json) else {
                throw ReleaseFailure(
                    "\(folder)/unsigned/targets.json: a delegation without name, keyids or threshold",
                    reason: .doesNotFollow, path: "\(folder)/unsigned/targets.json")
            }
            try keys.check(name, keys: delegated["keys"]?.object ?? [:])
        }
    }

    /// Reads the repository as a box does that trusts its first root.
    ///
    /// - Parameters:
    ///   - files: metadata that replaces or joins what the folder has, by name.
    ///   - root: the first root; nil for the repository's own.
    ///   - now: seconds since 1970; 0 accepts expired metadata.
    func checkAsBox(_ files: [String: [UInt8]], root: [UInt8]?, now: Int) throws {
        let trusted = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-release")
        defer { try? FileSystem.remove(trusted) }
        let source = Candidate(folder: "\(folder)/metadata", files: files)
        guard let first = try root ?? source.read("1.root.json", most: 1 << 20) else {
            throw ReleaseFailure.damaged("\(folder)/metadata/1.root.json", "the file is missing")
        }
        do {
            try UpdateClient.initialize(trusted, root: first)
            var client = try UpdateClient(folder: trusted, source: source, now: now)
            try client.refresh()
            // A path that no channel has makes the client read each channel's metadata.
            for channel in channels {
                do { _ = try client.find("\(channel)/a/b/c/d") } catch {
                    // A channel that was expired on purpose must not block changes of others.
                    if error.reason != .unknownTarget, error.reason != .expired { throw error }
                }
            }
        } catch {
            throw ReleaseFailure(
                "\(folder): a box would refuse the metadata: \(error)",
                hint: files.isEmpty
                    ? "copy the role's file from a mirror or a backup, or vcpe release repair \(folder)"
                    : "vcpe release status \(folder) shows roles that have expired: sign them first",
                reason: files.isEmpty ? .damaged : .refused)
        }
    }

    /// The metadata to publish, layered over the published metadata.
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
