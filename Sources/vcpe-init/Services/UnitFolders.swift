import Glibc
import Units

/// The folders that unit files lie in.
enum UnitFolders {
    /// The image's units come first: the engine can't replace one.
    private static let paths = ["/usr/lib/vcpe/units", "/run/vcpe/units"]
    /// The most units that are taken: what lies in a folder must not fill PID 1's memory.
    private static let most = 512

    /// The units, the names of those that can't be used, and what is wrong with them. A unit of an
    /// earlier folder is never replaced by one of a later.
    ///
    /// - Throws: when a folder that is there can't be read, so that its units are unknown.
    static func read() throws(Failure) -> (units: [Unit], broken: [String], problems: [Failure]) {
        var units: [Unit] = []
        var broken: [String] = []
        var problems: [Failure] = []
        for folder in paths {
            let names: [String]
            do {
                names = try Text.names(in: folder)
            } catch {
                if error.code == ENOENT { continue }
                throw error
            }
            for name in names where !name.hasPrefix(".") {
                if units.contains(where: { $0.name == name }) {
                    problems.append(Failure("unit \(name) of \(folder): the image has one of that name"))
                    continue
                }
                guard units.count < most else {
                    problems.append(Failure("more than \(most) units: \(name) is left out"))
                    continue
                }
                do throws(InvalidUnit) {
                    units.append(try Unit(name: name, text: Text.read("\(folder)/\(name)")))
                } catch {
                    problems.append(Failure(error.description))
                    broken.append(name)
                }
            }
        }
        return (units, broken, problems)
    }
}
