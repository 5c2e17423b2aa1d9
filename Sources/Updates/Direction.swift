import Documents
import Transfers

/// The releases that the provider's director selects for a group of boxes.
///
/// The split is that of Uptane's director and image repositories: channels sign releases, the
/// director chooses among them. Targets delegates the role to keys of the fleet's operator. A
/// stolen director's key cannot sign a release: it can only choose among those of the channels, and
/// none that is older than a release that the box ran.
///
/// The file `director/GROUP.json` is signed like other metadata. `_type` is `director`, `group` is
/// the group's name, `releases` has versions by image name, `window` has `from` and `to` in seconds
/// after midnight, UTC, and `version` is a counter that only grows.
///
/// Deviation from TUF 1.0: the role has no metadata in the snapshot, because its files are often on
/// another server. A TUF client that looks for a target below `director/` fails.
public struct Direction: Sendable, Hashable {
    /// The role, and the folder of its files.
    public static let role = "director"
    static let mostBytes = 65_536

    public let group: String
    public let counter: Int
    /// Seconds since 1970.
    public let expires: Int
    /// Versions by image name.
    public let releases: [String: String]
    /// When boxes may restart unattended; nil leaves that to the site document.
    public let window: MaintenanceWindow?

    /// Reads a file, which may be hostile.
    ///
    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - last: the highest counter that the box has seen.
    public init(
        _ bytes: [UInt8], of group: String, signedBy role: SigningRole, now: Int, last: Int
    ) throws(UpdateFailure) {
        let name = Self.path(of: group)
        let metadata = try Metadata(bytes, name: name, type: Self.role)
        try metadata.verify(by: role, name: name)
        guard let releases = metadata.signed["releases"]?.object, let found = metadata.signed["group"]?.text else {
            throw UpdateFailure(.malformed, name, "group or releases are missing")
        }
        guard found == group else { throw UpdateFailure(.mismatch, name, "it is for the group \(found)") }
        guard metadata.version >= last else {
            throw UpdateFailure(.rollback, name, "its counter is \(metadata.version), seen was \(last)")
        }
        guard metadata.expires > now else {
            throw UpdateFailure(
                .expired, name, "expired \(UTC.text(of: metadata.expires)), and it is \(UTC.text(of: now))")
        }
        window = MaintenanceWindow(metadata.signed["window"])
        guard window != nil || metadata.signed["window"] == nil else {
            throw UpdateFailure(.malformed, name, "window is not two different times of a day in seconds")
        }
        (self.group, counter, expires) = (group, metadata.version, metadata.expires)
        self.releases = releases.compactMapValues(\.text)
    }

    /// The path below a repository's address.
    public static func path(of group: String) -> String { "\(role)/\(URLText.quoted(group)).json" }
}

extension UpdateClient {
    /// Fetches a group's direction, and verifies it by the keys that this client trusts. Call
    /// ``refresh()`` before.
    ///
    /// - Parameters:
    ///   - repository: where the director's files are; it need not be trusted.
    ///   - last: the highest counter that the box has seen.
    public func direction(of group: String, in repository: Repository, last: Int) throws(UpdateFailure) -> Direction {
        let path = Direction.path(of: group)
        guard let role = trusted.targets["targets"]?.role(Direction.role) else {
            throw UpdateFailure(.unknownTarget, path, "the repository has no director")
        }
        guard let bytes = try HTTPSource(repository).read(path, most: Direction.mostBytes) else {
            throw UpdateFailure(.unavailable, path, "the director has no file for the group \(group)")
        }
        return try Direction(bytes, of: group, signedBy: role, now: trusted.now, last: last)
    }
}
