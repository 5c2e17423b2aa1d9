import Files
import Planning
import PluginKit

/// The users that policy rules may name: those of the image, and those of the site's document,
/// which the plan writes into a second file of passwd(5). The name service reads the image's file
/// first (nsswitch.conf: `passwd: files extrausers`).
///
/// The plan's file is read in the plan: it is written after the resources that name its users, and
/// after the box has booted it does not exist.
struct PlannedUsers {
    /// Where PID 1 has the name service (libnss-extrausers) look.
    private static let file = "/run/vcpe/system/users/passwd"

    private let numbers: [String: UInt32]

    init(_ plan: Plan) {
        let planned = plan.resources[ResourceKey(FileResource.kind, Self.file)]?.resource.as(FileResource.self)
        let image = (try? FileSystem.read("/etc/passwd")).map { String(decoding: $0, as: UTF8.self) }
        let entries = Self.entries(image ?? "") + Self.entries(planned?.content ?? "")
        numbers = Dictionary(entries) { first, _ in first }
    }

    private static func entries(_ content: String) -> [(String, UInt32)] {
        content.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count > 2, let number = UInt32(fields[2]) else { return nil }
            return (String(fields[0]), number)
        }
    }

    /// The number of a user of the image or of the plan; nil where neither has the user.
    func number(of name: String) -> UInt32? { numbers[name] }
}
