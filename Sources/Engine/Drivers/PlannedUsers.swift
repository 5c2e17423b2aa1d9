import Glibc
import Planning
import PluginKit

/// The users that a plan makes: those of the site's document, in the file of passwd(5) that the
/// box's name service reads beside the image's. The file is written after the resources that name its
/// users, and after a start of the box it does not exist.
struct PlannedUsers {
    /// Where PID 1 has the name service (libnss-extrausers) look.
    private static let file = "/run/vcpe/system/users/passwd"

    private let numbers: [String: UInt32]

    init(_ plan: Plan) {
        let file = plan.resources[ResourceKey(FileResource.kind, Self.file)]?.resource.as(FileResource.self)
        let entries = (file?.content ?? "").split(separator: "\n").compactMap { line -> (String, UInt32)? in
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count > 2, let number = UInt32(fields[2]) else { return nil }
            return (String(fields[0]), number)
        }
        numbers = Dictionary(entries) { first, _ in first }
    }

    /// The number of a user of the plan or of the image; nil for none.
    ///
    /// - Parameter before: of the plan that the box has: a user that only that one makes is none.
    func number(of name: String, before: PlannedUsers? = nil) -> UInt32? {
        if let number = numbers[name] { return number }
        if before?.numbers[name] != nil { return nil }
        return getpwnam(name)?.pointee.pw_uid
    }
}
