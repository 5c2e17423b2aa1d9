import Documents
import Files
import Units

extension Composer {
    /// A service of the definition that is taken from a systemd unit.
    struct UnitService {
        var unit: SystemdUnit
        /// The definition's, or the unit's.
        var user: String
        /// nil for the user's own.
        var group: String?

        init(_ unit: SystemdUnit, _ service: Definition.Service) {
            self.unit = unit
            user = service.user ?? unit.user ?? "root"
            // The unit's group belongs to the unit's user.
            group = service.group ?? (service.user == nil ? unit.value("Group").flatMap(unit.expanded) : nil)
        }
    }

    /// The definition's services that are taken from systemd units, by their names.
    ///
    /// - Parameters:
    ///   - units: of packages and of the definition.
    ///   - further: packages that could have a missing unit; nil to pass over it.
    static func unitServices(
        of definition: Definition, in units: SystemdUnits, further: [UnpackedPackage]?
    ) throws -> [String: UnitService] {
        var found: [String: UnitService] = [:]
        for (name, located) in definition.services.sorted(by: { $0.key < $1.key }) {
            guard case .unit(let wanted) = located.value.program else { continue }
            if let unit = try units.unit(wanted) {
                found[name] = UnitService(unit, located.value)
            } else if let further {
                let path = "usr/lib/systemd/system/\(wanted)"
                let provider = further.first { $0.entries.contains { PackageTree.canonical($0.path) == path } }
                throw InvalidDocument([
                    located.problem(
                        "there is no unit \(wanted) in the image",
                        hint: provider.map { "the package \($0.package.name) has it: add it to packages:" }
                            ?? "add the package that has it to packages:; the image's units are "
                            + units.names.joined(separator: ", "))
                ])
            }
        }
        return found
    }

    /// Writes the unit files of the definition's services, as `docs/init.md` has them.
    mutating func addServices(_ users: Users, _ unitServices: [String: UnitService]) throws {
        let services = definition.services.filter(\.value.value.enabled).sorted { $0.key < $1.key }
        var byUnit: [String: String] = [:]
        for (name, _) in services {
            guard let unit = unitServices[name]?.unit else { continue }
            for alias in [unit.name] + unit.aliases.sorted() where byUnit[alias] == nil { byUnit[alias] = name }
        }
        for (name, located) in services {
            let service = located.value
            func failure(_ message: String, _ hint: String) -> InvalidDocument {
                InvalidDocument([located.problem(message, hint: hint)])
            }
            if result.tree["usr/lib/vcpe/units/\(name)"] != nil {
                throw failure("the image has a service \(name) of its own", "give this one another name")
            }
            let unit = unitServices[name]?.unit
            let user = unitServices[name]?.user ?? service.user ?? "root"
            let group = unitServices[name]?.group ?? service.group
            guard var uid = users.uid(user),
                var gid = group.map({ users.gid($0) }) ?? users.primaryGroup(of: user) ?? uid
            else {
                throw failure(
                    "there is no user \(user) or group \(group ?? "of its own") in the image",
                    "add the package that makes the user to packages:, or the user to users:")
            }
            var written = Unit(name: name, command: [])
            switch service.program {
            case .command(let words):
                written.command = words
                written.environment = service.environment
            case .unit:
                guard let unit else { continue }
                do {
                    let imported = try ImportedService(
                        unit, tree: result.tree, user: user, account: users.users[user],
                        environment: service.environment, services: byUnit, needsEngine: !definition.plugins.isEmpty)
                    written = imported.converted
                    written.name = name
                    if imported.isPrivileged { (uid, gid) = (0, 0) }
                    result.remarks += imported.remarks.map { "service \(name), /\(unit.path): \($0)" }
                } catch let error as ImportedService.Unusable {
                    throw failure("the unit \(unit.name) can't be a service: \(error.message)", error.hint)
                }
            }
            try checkProgram(written.command.first ?? "", failure)
            let further = try (unit?.words("SupplementaryGroups") ?? []).map { name -> UInt32 in
                guard let id = users.gid(name) else {
                    throw failure("there is no group \(name) in the image", "add the package that makes it")
                }
                return id
            }
            (written.user, written.group) = (uid, gid)
            written.groups = Set(uid == 0 ? [] : users.memberships(of: user) + further).subtracting([gid]).sorted()
            if let restart = service.restart { written.restart = restart }
            written.directories = service.directories
            do throws(InvalidUnit) {
                put("usr/lib/vcpe/units/\(name)", .file(Content(try written.text())), mode: 0o644)
            } catch {
                throw failure("PID 1 can't have it: \(error)", "docs/init.md has what a unit may say")
            }
        }
    }

    private func checkProgram(_ path: String, _ failure: (String, String) -> InvalidDocument) throws {
        guard let found = result.tree.resolving(canonical(String(path.dropFirst()))), let entry = result.tree[found]
        else {
            throw failure(
                "there is no program \(path) in the image", "add the package that brings it to packages:")
        }
        guard entry.kind != .directory, entry.mode & 0o111 != 0 else {
            throw failure(
                "\(path) is not executable in the image", "give it mode: 0755 under files:, or rules: under trees:")
        }
    }
}
