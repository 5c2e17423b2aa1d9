/// A service unit of systemd with its drop-ins (systemd.unit(5), systemd.syntax(7)).
struct SystemdUnit {
    /// `NAME.service` or `NAME@INSTANCE.service`, as the definition has it.
    let name: String
    /// The unit's main file, without a leading slash.
    let path: String
    /// systemd listens for this unit, by a socket unit of its name.
    let hasSocket: Bool
    /// By section and key; an empty value has removed those before it.
    private var settings: [String: [String: [String]]] = [:]

    /// Its further names: of the links that led to it, and its `Alias=`.
    private(set) var aliases: Set<String>

    init(
        _ name: String, path: String, aliases: Set<String>, hasSocket: Bool, texts: [String]
    ) {
        self.name = name
        self.path = path
        self.hasSocket = hasSocket
        self.aliases = aliases
        for text in texts { read(text) }
        self.aliases.formUnion(words("Alias", section: "Install"))
    }

    private mutating func read(_ text: String) {
        var section = ""
        var pending = ""
        for raw in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
            let trimmed = raw.trimming { $0 == " " || $0 == "\t" || $0 == "\r" }
            if trimmed.hasPrefix("#") || trimmed.hasPrefix(";") { continue }
            // A line that ends with a backslash goes on in the next one.
            if trimmed.hasSuffix("\\") {
                pending += trimmed.dropLast() + " "
                continue
            }
            let line = pending + trimmed
            pending = ""
            if line.hasPrefix("["), line.hasSuffix("]") {
                section = String(line.dropFirst().dropLast())
                continue
            }
            guard let equals = line.firstIndex(of: "=") else { continue }
            let key = String(line[..<equals].trimming { $0 == " " })
            let value = String(line[line.index(after: equals)...].trimming { $0 == " " })
            if value.isEmpty, Self.capabilitySets.contains(key) {
                settings[section, default: [:]][key] = [""]
            } else if value.isEmpty {
                settings[section]?[key] = nil
            } else {
                settings[section, default: [:]][key, default: []].append(value)
            }
        }
    }

    /// Of these an empty value is the empty set.
    private static let capabilitySets = ["CapabilityBoundingSet", "AmbientCapabilities"]

    // MARK: - Settings

    /// All values of a setting in their order.
    func values(_ key: String, section: String = "Service") -> [String] { settings[section]?[key] ?? [] }

    /// The value that counts where a setting has one value: the last.
    func value(_ key: String) -> String? { values(key).last }

    func isTrue(_ key: String) -> Bool {
        value(key).map { ["yes", "true", "1", "on"].contains($0.lowercased()) } ?? false
    }

    /// The words of a setting that is a list.
    func words(_ key: String, section: String = "Service") -> [String] {
        values(key, section: section).flatMap { SystemdSyntax.words($0).map(\.text) }
    }

    /// The keys that a section has.
    func keys(section: String) -> [String] { (settings[section] ?? [:]).keys.sorted() }

    var type: String { value("Type") ?? (value("BusName") == nil ? "simple" : "dbus") }

    // MARK: - Names

    /// `prefix` and `instance` of `prefix@instance.service`.
    private static func parts(_ name: String) -> (prefix: String, instance: String?) {
        let stem = name.hasSuffix(".service") ? String(name.dropLast(".service".count)) : name
        guard let at = stem.firstIndex(of: "@") else { return (stem, nil) }
        return (String(stem[..<at]), String(stem[stem.index(after: at)...]))
    }

    /// `NAME@.service` of `NAME@INSTANCE.service`; nil for another name.
    static func template(of name: String) -> String? {
        let parts = parts(name)
        return parts.instance == nil ? nil : "\(parts.prefix)@.service"
    }

    /// A text with its specifiers replaced (systemd.unit(5), "Specifiers"); nil where one has a
    /// value on a running system only.
    func expanded(_ text: String) -> String? {
        let parts = Self.parts(name)
        let instance = parts.instance ?? ""
        // A path is escaped in an instance's name: - for /.
        let path = "/" + instance.replacing("-", with: "/")
        return ConfigurationFiles.expanded(
            text,
            further: [
                "n": name, "N": String(name.dropLast(".service".count)), "p": parts.prefix, "P": parts.prefix,
                "i": instance, "I": instance.replacing("-", with: "/"), "f": path,
                "j": String(parts.prefix.split(separator: "-").last ?? ""), "E": "/etc",
            ])
    }

    // MARK: - What it needs

    /// The user that the unit's processes run as; for `DynamicUser=` one of the unit's name.
    var user: String? {
        if let user = value("User").flatMap(expanded) { return user }
        return isTrue("DynamicUser") ? Self.parts(name).prefix : nil
    }

    /// A directory that systemd makes before the unit starts.
    struct Directory {
        /// Without a leading slash.
        var path: String
        var mode: UInt32
        /// The environment variable that names it, such as `STATE_DIRECTORY`.
        var variable: String
    }

    /// `RuntimeDirectory=`, `StateDirectory=`, `CacheDirectory=` and `LogsDirectory=`.
    var directories: [Directory] {
        let places = [
            ("RuntimeDirectory", "run", "RUNTIME_DIRECTORY"), ("StateDirectory", "var/lib", "STATE_DIRECTORY"),
            ("CacheDirectory", "var/cache", "CACHE_DIRECTORY"), ("LogsDirectory", "var/log", "LOGS_DIRECTORY"),
        ]
        return places.flatMap { (key, place, variable) -> [Directory] in
            let mode = value(key + "Mode").flatMap { UInt32($0, radix: 8) } ?? 0o755
            // NAME, or NAME:LINK.
            return words(key).compactMap { word -> Directory? in
                guard let name = word.split(separator: ":").first.map(String.init).flatMap(expanded),
                    !name.split(separator: "/").contains("..")
                else { return nil }
                return Directory(path: "\(place)/\(name)", mode: mode, variable: variable)
            }
        }
    }
}

extension SystemdUnit {
    /// Seconds of a time span (systemd.time(7)), rounded up; nil for one that is none.
    static func seconds(_ text: String) -> Int? {
        let units: [String: Double] = [
            "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3, "": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1,
            "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600,
            "d": 86_400, "day": 86_400, "days": 86_400, "w": 604_800, "week": 604_800, "weeks": 604_800,
        ]
        var total = 0.0
        var rest = text[...].drop { $0 == " " }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isNumber || $0 == "." }
            rest = rest.dropFirst(digits.count).drop { $0 == " " }
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count).drop { $0 == " " }
            guard let number = Double(digits), let factor = units[String(unit)] else { return nil }
            total += number * factor
        }
        guard total < 1e9 else { return nil }
        return Int(total.rounded(.up))
    }

    /// Bytes or a number, with K, M, G and T as powers of 1024; `UInt64.max` for `infinity`, nil
    /// for what is neither.
    static func number(_ text: String) -> UInt64? {
        if text == "infinity" { return .max }
        let powers: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        guard let last = text.last, let factor = powers[last] else { return UInt64(text) }
        guard let number = UInt64(text.dropLast()) else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }
}
