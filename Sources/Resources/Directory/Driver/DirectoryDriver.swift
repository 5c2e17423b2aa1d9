import Planning
import PluginKit

extension DirectoryResource: DrivenResource { typealias ItsDriver = DirectoryDriver }

/// Makes directories of plugins, and removes empty ones.
struct DirectoryDriver: Driver {
    static let watch = DriftWatch.polling

    private let files: PluginFiles

    init(_ context: DriverContext) { files = PluginFiles(places: context.places) }

    func steps(_ change: KindChange<DirectoryResource>) -> [Step] {
        [
            Step(.directories) {
                for directory in change.wanted {
                    try files.makeDirectory(directory.path, owner: directory.owner, mode: directory.mode)
                }
            },
            Step(.directoryRemoval) {
                for directory in change.removed.reversed() { try files.removeDirectory(directory.path) }
            },
        ]
    }

    func drift(from plan: Plan) throws -> [String] {
        plan.values(DirectoryResource.self).filter {
            (try? files.isDirectory($0.path, owner: $0.owner, mode: $0.mode)) != true
        }
        .map { "directory \($0.path) differs" }
    }
}
