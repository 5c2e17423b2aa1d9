import Units

/// The unit files of a box: those of its image come before those of the engine.
public struct InstalledUnits: Sendable {
    public static let image = "/usr/lib/vcpe/units"
    public static let engine = "/run/vcpe/units"

    private let folders: [String]

    public init(folders: [String] = [image, engine]) { self.folders = folders }

    /// The unit of a service; nil when there is none, or it can't be read.
    public func unit(_ name: String) -> Unit? {
        guard Unit.isName(name) else { return nil }
        for folder in folders {
            guard let text = Caller.text(of: "\(folder)/\(name)", limit: 1 << 16) else { continue }
            return try? Unit(name: name, text: text)
        }
        return nil
    }
}
