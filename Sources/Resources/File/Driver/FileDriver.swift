import Planning
import PluginKit

extension FileResource: DrivenResource { typealias ItsDriver = FileDriver }

/// Writes files of plugins, with their secrets.
struct FileDriver: Driver {
    static let watch = DriftWatch.polling

    private let files: PluginFiles
    private let secrets: SecretStore

    init(_ context: DriverContext) {
        files = PluginFiles(places: context.places)
        secrets = context.secrets
    }

    func steps(_ change: KindChange<FileResource>) -> [Step] {
        [
            Step(.files) {
                // An engine that crashed may have left a file half written.
                if !change.isSettled { try files.removeLeftovers(of: change.before) }
                for file in change.wanted {
                    try files.write(
                        file.path, content: try secrets.filled(file.content), owner: file.owner, mode: file.mode)
                }
            },
            Step(.fileRemoval) { for file in change.removed { try files.removeFile(file.path) } },
        ]
    }

    func drift(from plan: Plan) throws -> [String] {
        plan.values(FileResource.self).filter { file in
            let isSame = try? files.isFile(
                file.path, content: try secrets.filled(file.content), owner: file.owner, mode: file.mode)
            return isSame != true
        }.map { "file \($0.path) differs" }
    }
}
