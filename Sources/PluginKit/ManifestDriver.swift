extension PluginManifest {
    /// A program of the plugin that drives a kind of resources: the engine starts it as root, and
    /// speaks with it in lines of JSON (`docs/plugins.md`, "A kind of your own").
    public struct Driver: Sendable, Hashable {
        /// When a transaction applies the resources: after those of the kinds that the engine drives
        /// itself and that belong to the same phase.
        public enum Phase: String, Sendable, CaseIterable {
            case addresses, routes, rules, directories, files, services
        }

        /// The kind of the plan's lines, such as `guest`; any plugin whose manifest lists it may plan it.
        public var kind: String
        /// The name of a file in the plugin's folder, or an absolute path of the image.
        public var program: String
        public var phase: Phase
        /// Seconds that an answer may take before the program is killed.
        public var deadline: Int
        /// Seconds between two looks for drift.
        public var interval: Int

        public static let defaultDeadline = 30
        public static let defaultInterval = 60

        public init(
            kind: String, program: String, phase: Phase = .services, deadline: Int = Driver.defaultDeadline,
            interval: Int = Driver.defaultInterval
        ) {
            self.kind = kind
            self.program = program
            self.phase = phase
            self.deadline = deadline
            self.interval = interval
        }

        /// Whether the program lies in the plugin's folder.
        public var isOwnFile: Bool { !program.hasPrefix("/") }

        var json: JSON {
            .object([
                "kind": .text(kind), "program": .text(program),
                "phase": phase == .services ? nil : .text(phase.rawValue),
                "deadline": deadline == Self.defaultDeadline ? nil : .integer(deadline),
                "interval": interval == Self.defaultInterval ? nil : .integer(interval),
            ])
        }

        static var shape: Shape<Driver> {
            .mapping("a driver") { fields in
                let builtIn = ResourceTypes.kinds
                let kind = fields.required(
                    "kind",
                    Shape.name.map(
                        "a name of lower-case letters, digits and hyphens that is not a kind of the engine's own ("
                            + builtIn.joined(separator: ", ") + ")"
                    ) { builtIn.contains($0) ? nil : $0 })
                let program = fields.required(
                    "program",
                    .text("the name of a file in the plugin's folder, or an absolute path of the image") {
                        isProgram($0)
                    })
                let phases = Phase.allCases.map(\.rawValue)
                let phase = fields.optional("phase", Shape.oneOf(phases).map { Phase(rawValue: $0) }) ?? .services
                let deadline = fields.optional("deadline", .integer(1...600)) ?? defaultDeadline
                let interval = fields.optional("interval", .integer(1...86_400)) ?? defaultInterval
                guard let kind, let program else { return nil }
                return Driver(kind: kind, program: program, phase: phase, deadline: deadline, interval: interval)
            }
        }

        private static func isProgram(_ text: String) -> Bool {
            let parts = text.split(separator: "/", omittingEmptySubsequences: false)
            let names = text.hasPrefix("/") ? parts.dropFirst() : parts[...]
            let isPath = names.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
            return isPath && (text.hasPrefix("/") || names.count == 1)
        }
    }

    /// Programs of drivers that lie in the plugin's folder beside its own program.
    public var driverFiles: [String] {
        Set(drivers.filter { $0.isOwnFile && $0.program != name }.map(\.program)).sorted()
    }

    /// Kinds that it plans and that neither the engine nor its own drivers drive.
    public var foreignKinds: [String] {
        resources.filter { kind in !ResourceTypes.kinds.contains(kind) && !drivers.contains { $0.kind == kind } }
    }

    /// A kind that plugins which are used together do not agree on.
    public struct KindProblem: Sendable, Hashable {
        /// The name of the plugin that has it.
        public var plugin: String
        public var message: String
        public var hint: String
    }

    /// What is wrong with the kinds of plugins that are used together: two programs that drive one
    /// kind, or a kind that no program drives.
    public static func kindProblems(of manifests: [PluginManifest]) -> [KindProblem] {
        var problems: [KindProblem] = []
        var drivers: [String: String] = [:]
        for manifest in manifests {
            for driver in manifest.drivers {
                guard let other = drivers.updateValue(manifest.name, forKey: driver.kind) else { continue }
                problems.append(
                    KindProblem(
                        plugin: manifest.name,
                        message: "the plugins \(other) and \(manifest.name) both drive the kind \"\(driver.kind)\"",
                        hint: "leave one of them out, or give one of the kinds another name"))
            }
        }
        let kinds = ResourceTypes.kinds + drivers.keys.sorted()
        for manifest in manifests {
            for kind in manifest.foreignKinds where drivers[kind] == nil {
                let meant = didYouMean(kind, among: kinds).map { "did you mean \($0)? " } ?? ""
                problems.append(
                    KindProblem(
                        plugin: manifest.name,
                        message: "the plugin \(manifest.name) plans the kind \"\(kind)\", which no plugin drives",
                        hint: meant + "kinds are \(kinds.joined(separator: ", "))"))
            }
        }
        return problems
    }
}
