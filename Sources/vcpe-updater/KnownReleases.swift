import Documents
import Files
import Updates

/// What is known of releases whatever a channel or a director says now: a box goes back to nothing by itself.
struct KnownReleases {
    private static let path = "\(UpgradableBox.state)/known"
    /// When the newest release that was found good here was published, in seconds since 1970; 0 for none.
    private(set) var ran = 0
    /// The newest release before which nothing may be installed any more.
    private(set) var floor: (version: String, released: Int)?
    /// The director's counter that was seen last, by group.
    private var counters: [String: Int] = [:]

    init() {
        guard let json = try? JSON.parse(FileSystem.read(Self.path)) else { return }
        ran = json["ran"]?.integer ?? 0
        if let version = json["floor"]?["version"]?.text, let released = json["floor"]?["released"]?.integer {
            floor = (version, released)
        }
        counters = json["counters"]?.object?.compactMapValues(\.integer) ?? [:]
    }

    func counter(of group: String) -> Int { counters[group] ?? 0 }

    mutating func take(ran released: Int) throws {
        guard released > ran else { return }
        ran = released
        try save()
    }

    mutating func take(floors releases: [AvailableRelease]) throws {
        guard let newest = releases.first(where: \.isFloor), newest.released > (floor?.released ?? 0) else { return }
        floor = (newest.version, newest.released)
        try save()
    }

    mutating func take(_ direction: Direction) throws {
        guard direction.counter > counter(of: direction.group) else { return }
        counters[direction.group] = direction.counter
        try save()
    }

    private func save() throws {
        let floor = self.floor.map { JSON.object(["version": .text($0.version), "released": .integer($0.released)]) }
        try FileSystem.makeDirectory(UpgradableBox.state)
        let known = JSON.object([
            "ran": .integer(ran), "floor": floor, "counters": .object(counters.mapValues { .integer($0) }),
        ])
        try FileSystem.replace(Self.path, with: known.line)
    }
}
