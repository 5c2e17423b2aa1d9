extension Allocation {
    /// Why manifests can't be used together.
    public struct Conflict: Error, Sendable, Hashable, CustomStringConvertible {
        /// The plugin that gets no numbers, because others have them.
        public var plugin: String
        public var message: String
        public var hint: String

        public var description: String { "\(message); \(hint)" }
    }

    /// Allocates for plugins in their order: a plugin behind the others changes nothing of theirs.
    /// Within a plugin, names are in alphabetical order.
    ///
    /// - Throws: the first conflict.
    public init(of manifests: [PluginManifest]) throws(Conflict) {
        try Self.checkUsers(of: manifests)
        var marks = MarkBits()
        var zones = NumberSpace("connection-track zones", Self.zoneNumbers)
        var tables = NumberSpace("routing tables", Self.tableNumbers, reserved: [Self.kernelTables])
        var priorities = NumberSpace("priorities of policy rules", Self.priorityNumbers)
        // What people write has its place, wherever its plugin stands.
        for manifest in manifests {
            let (plugin, request) = (manifest.name, manifest.allocates)
            try zones.takeFixed(request.zones, of: plugin)
            try tables.takeFixed(request.tables, of: plugin)
            try priorities.takeFixed(request.priorities, of: plugin)
        }
        var namespaces: [String: String] = [:]
        for manifest in manifests {
            let (plugin, request) = (manifest.name, manifest.allocates)
            var share = Share()
            share.marks = try marks.take(request.marks, of: plugin)
            share.zones = try zones.take(request.zones, of: plugin, from: Self.zoneNumbers)
            share.tables = try tables.take(request.tables, of: plugin, from: Self.countedTables)
            share.priorities = try priorities.take(
                request.priorities, of: plugin, from: Self.countedPriorities, early: Self.earlyPriorities)
            for name in request.namespaces {
                let full = "\(plugin)-\(name)"
                share.namespaces[name] = full
                guard let other = namespaces.updateValue(plugin, forKey: full), other != plugin else { continue }
                throw Conflict(
                    plugin: plugin, message: "the plugins \(other) and \(plugin) both have the namespace \(full)",
                    hint: "give the namespace of one of them another name in its manifest")
            }
            if !share.isEmpty { shares[plugin] = share }
        }
    }

    /// A user is one user, whichever features name it.
    private static func checkUsers(of manifests: [PluginManifest]) throws(Conflict) {
        var known: [String: (plugin: String, home: String)] = [:]
        for manifest in manifests {
            for feature in manifest.features {
                for (name, home) in feature.users.sorted(by: { $0.key < $1.key }) {
                    guard let other = known[name] else {
                        known[name] = (manifest.name, home)
                        continue
                    }
                    guard other.home != home else { continue }
                    throw Conflict(
                        plugin: manifest.name,
                        message: "the user \(name) has the home \(other.home) in the plugin \(other.plugin), and "
                            + "\(home) in the plugin \(manifest.name)",
                        hint: "give one of the users another name, or both the same home")
                }
            }
        }
    }

    /// The bits of marks: fields of a packet from the lowest bit upward, fields that connections keep
    /// from the highest bit downward.
    private struct MarkBits {
        private var (low, high) = (0, 32)
        private var shared: [String: MarkField] = [:]
        private var taken: [(plugin: String, field: MarkField)] = []

        mutating func take(
            _ wanted: [String: AllocationRequest.Mark], of plugin: String
        ) throws(Conflict) -> [String: MarkField] {
            var fields: [String: MarkField] = [:]
            for (name, mark) in wanted.sorted(by: { $0.key < $1.key }) {
                if let known = shared[name], mark == .shared {
                    fields[name] = known
                    continue
                }
                var field: MarkField
                switch mark {
                case .shared:
                    guard let known = MarkField.shared.first(where: { $0.name == name }) else { continue }
                    field = known
                case .own(let bits, let isSaved):
                    field = MarkField("\(plugin).\(name)", shift: 0, bits: bits, isSaved: isSaved)
                }
                guard field.bits <= high - low else { throw overflow(field, plugin) }
                if field.isSaved { high -= field.bits } else { low += field.bits }
                field.shift = field.isSaved ? high : low - field.bits
                if mark == .shared { shared[name] = field }
                taken.append((plugin, field))
                fields[name] = field
            }
            return fields
        }

        private func overflow(_ field: MarkField, _ plugin: String) -> Conflict {
            let list = taken.map { "\($0.plugin) takes \($0.field.bits) for \($0.field.name)" }
            return Conflict(
                plugin: plugin,
                message: "marks have 32 bits, of which \(high - low) are left, and the plugin \(plugin) needs "
                    + "\(field.bits) for \(field.name); \(list.joined(separator: ", "))",
                hint: "leave out a plugin, or make a field smaller in a manifest")
        }
    }

    /// Numbers of one kind.
    private struct NumberSpace {
        private let what: String
        private let allowed: ClosedRange<Int>
        private let reserved: [ClosedRange<Int>]
        private var taken: [(plugin: String, name: String, numbers: ClosedRange<Int>)] = []

        init(_ what: String, _ allowed: ClosedRange<Int>, reserved: [ClosedRange<Int>] = []) {
            (self.what, self.allowed, self.reserved) = (what, allowed, reserved)
        }

        mutating func takeFixed(
            _ wanted: [String: AllocationRequest.Numbers], of plugin: String
        ) throws(Conflict) {
            for (name, numbers) in wanted.sorted(by: { $0.key < $1.key }) {
                guard case .fixed(let numbers) = numbers else { continue }
                if let other = taken.first(where: { $0.numbers.overlaps(numbers) }) {
                    throw Conflict(
                        plugin: plugin,
                        message: "the plugin \(plugin) takes the \(what) \(text(numbers)) for \(name), and the plugin "
                            + "\(other.plugin) takes \(text(other.numbers)) for \(other.name)",
                        hint: "leave out one of them, or have a manifest say how many it needs instead of which")
                }
                if let kernel = reserved.first(where: { $0.overlaps(numbers) }) {
                    throw Conflict(
                        plugin: plugin,
                        message: "the plugin \(plugin) takes the \(what) \(text(numbers)) for \(name), and "
                            + "\(text(kernel)) are the kernel's",
                        hint: "have its manifest take others")
                }
                taken.append((plugin, name, numbers))
            }
        }

        mutating func take(
            _ wanted: [String: AllocationRequest.Numbers], of plugin: String, from usual: ClosedRange<Int>,
            early: ClosedRange<Int>? = nil
        ) throws(Conflict) -> [String: ClosedRange<Int>] {
            var found: [String: ClosedRange<Int>] = [:]
            for (name, numbers) in wanted.sorted(by: { $0.key < $1.key }) {
                switch numbers {
                case .fixed(let numbers): found[name] = numbers
                case .count(let count): found[name] = try take(count, of: plugin, name, from: usual)
                case .early(let count): found[name] = try take(count, of: plugin, name, from: early ?? usual)
                }
            }
            return found
        }

        /// The first free numbers.
        private mutating func take(
            _ count: Int, of plugin: String, _ name: String, from range: ClosedRange<Int>
        ) throws(Conflict) -> ClosedRange<Int> {
            var first = range.lowerBound
            while first + count - 1 <= range.upperBound {
                let numbers = first...first + count - 1
                guard let other = (taken.map(\.numbers) + reserved).first(where: { $0.overlaps(numbers) }) else {
                    taken.append((plugin, name, numbers))
                    return numbers
                }
                first = other.upperBound + 1
            }
            let list = taken.filter { $0.numbers.overlaps(range) }.map {
                "\($0.plugin) takes \(text($0.numbers)) for \($0.name)"
            }
            throw Conflict(
                plugin: plugin,
                message: "the plugin \(plugin) needs \(count) \(what) for \(name), which \(text(range)) have not left"
                    + list.map { ", \($0)" }.joined(),
                hint: "leave out a plugin, or have a manifest need fewer")
        }

        private func text(_ numbers: ClosedRange<Int>) -> String {
            numbers.count == 1 ? "\(numbers.lowerBound)" : "\(numbers.lowerBound) to \(numbers.upperBound)"
        }
    }
}
