import Documents
import Transfers

/// What a group of boxes is to run, as the provider's director says it (the split of Uptane: who makes releases, and who hands them out).
///
/// The director's keys are delegated by the targets role, and lie with whoever runs the fleet. They sign no release: who has got hold of them can only choose
/// among those that were properly released, and not go back.
///
/// A file `director/GROUP.json`, signed like all metadata, with `_type` `director`, `group`, `releases` (versions by the names of images), `window` (`from` and
/// `to`, seconds after midnight, UTC), and as `version` a counter that only grows.
public struct Direction: Sendable, Hashable {
    /// The role, and the folder of its files.
    public static let role = "director"
    static let mostBytes = 65_536

    public let group: String
    public let counter: Int
    /// Seconds since 1970.
    public let expires: Int
    /// Versions by the names of images.
    public let releases: [String: String]
    /// When boxes may restart into them by themselves; nil where the site alone says so.
    public let window: MaintenanceWindow?

    /// Reads a file, which may be hostile.
    ///
    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - last: the counter that was seen last.
    public init(
        _ bytes: [UInt8], of group: String, signedBy role: Role, now: Int, last: Int
    ) throws(UpdateFailure) {
        let name = Self.path(of: group)
        let metadata = try Metadata(bytes, name: name, type: Self.role)
        try metadata.verify(by: role, name: name)
        guard let releases = metadata.signed["releases"]?.object, let found = metadata.signed["group"]?.text else {
            throw UpdateFailure(.malformed, name, "neither group nor releases")
        }
        guard found == group else { throw UpdateFailure(.mismatch, name, "it is of the group \(found)") }
        guard metadata.version >= last else {
            throw UpdateFailure(.rollback, name, "its counter is \(metadata.version) after \(last)")
        }
        guard metadata.expires > now else {
            throw UpdateFailure(
                .expired, name, "expired \(UTC.text(of: metadata.expires)), and it is \(UTC.text(of: now))")
        }
        (self.group, counter, expires) = (group, metadata.version, metadata.expires)
        self.releases = releases.compactMapValues(\.text)
        window = MaintenanceWindow(metadata.signed["window"])
    }

    /// Below a repository's address.
    public static func path(of group: String) -> String { "\(role)/\(URLText.quoted(group)).json" }
}

extension UpdateClient {
    /// What the director says of a group, by the keys that this client trusts now; ``refresh()`` comes first.
    ///
    /// - Parameters:
    ///   - repository: where the director's files are; nobody has to trust it.
    ///   - last: the counter that was seen last.
    public func direction(of group: String, in repository: Repository, last: Int) throws(UpdateFailure) -> Direction {
        let path = Direction.path(of: group)
        guard let role = trusted.targets["targets"]?.role(Direction.role) else {
            throw UpdateFailure(.unknownTarget, path, "the repository has no director")
        }
        guard let bytes = try HTTPSource(repository).read(path, most: Direction.mostBytes) else {
            throw UpdateFailure(.unavailable, path, "the director says nothing of a group \(group)")
        }
        return try Direction(bytes, of: group, signedBy: role, now: trusted.now, last: last)
    }
}
