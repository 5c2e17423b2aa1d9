import Files

/// The EFI system partition: which releases the loader may start.
///
/// Every change begins with a repair: a loader that renames, or a cut of power, may have left one kernel image under two names.
public struct BootPartition {
    /// Starts that a new release has to be found good.
    public static let tries = 3
    static let folder = "EFI/Linux"
    private static let resetEntry = "loader/entries/factory-reset.conf"

    private var volume: FATVolume
    /// By their numbers, oldest first.
    public private(set) var entries: [BootEntry]

    /// - Parameter storage: the partition.
    public init(_ storage: any RandomAccess) throws(SlotFailure) {
        volume = try FATVolume(storage)
        entries = []
        entries = try read()
    }

    private func read() throws(SlotFailure) -> [BootEntry] {
        try volume.list(Self.folder).compactMap { $0.isFolder ? nil : BootEntry($0.name) }.sorted()
    }

    /// The kernel image of an entry.
    public func image(of entry: BootEntry) throws(SlotFailure) -> FATVolume.Room {
        try volume.contents(of: "\(Self.folder)/\(entry.fileName)")
    }

    /// The entry of a release.
    public func entry(_ number: Int) -> BootEntry? { entries.last { $0.number == number } }

    /// Makes one name of two for the same release, and takes back what a cut of power left.
    ///
    /// A good name stands before one on trial: it was only given after everything had been looked at. Else the one with fewer tries left does.
    public mutating func repair() throws(SlotFailure) {
        let files = try volume.list(Self.folder)
        for entry in entries {
            guard let own = files.first(where: { BootEntry($0.name) == entry }) else { continue }
            let better = entries.contains { other in
                other.number == entry.number && other != entry
                    && (other.isGood || !entry.isGood && (other.triesLeft ?? 0) < (entry.triesLeft ?? 0)
                        || other.triesLeft == entry.triesLeft && other.triesDone > entry.triesDone)
            }
            // The name only: its clusters may be the other's.
            if better { try volume.forget(own) }
        }
        try volume.repair()
        entries = try read()
    }

    /// Room for a release's kernel image, for ``add(_:from:)``.
    public func room(for size: Int) throws(SlotFailure) -> FATVolume.Room { try volume.room(for: size) }

    /// The number of the release that is installed next.
    public var nextNumber: Int { (entries.last?.number ?? 0) + 1 }

    /// Has the loader try a release at the next start.
    ///
    /// - Parameter room: of ``room(for:)``, filled.
    public mutating func add(_ number: Int, from room: FATVolume.Room) throws(SlotFailure) -> BootEntry {
        guard !entries.contains(where: { $0.number >= number }) else {
            throw SlotFailure("there is an entry \(entries.last?.fileName ?? "") already")
        }
        let entry = BootEntry(number: number, triesLeft: Self.tries)
        try volume.publish(room, as: "\(Self.folder)/\(entry.fileName)")
        entries = try read()
        return entry
    }

    /// Takes every release away but one.
    public mutating func keepOnly(_ number: Int) throws(SlotFailure) {
        try repair()
        guard entries.contains(where: { $0.number == number }) else {
            throw SlotFailure("there is no entry of release \(number), which is to be kept")
        }
        for entry in entries where entry.number != number {
            try volume.remove("\(Self.folder)/\(entry.fileName)")
        }
        entries = try read()
    }

    /// Marks a release as good: the loader starts it from now on without counting. The way back to the factory's document goes by it too.
    public mutating func bless(_ number: Int) throws(SlotFailure) {
        try repair()
        let entry = BootEntry(number: number, triesLeft: nil)
        try rename(number, to: entry)
        guard try volume.find(Self.resetEntry) != nil else { return }
        let text = String(decoding: try volume.read(Self.resetEntry), as: UTF8.self)
        let lines = text.split(separator: "\n").map { line in
            line.hasPrefix("efi ") ? "efi /\(Self.folder)/\(entry.fileName)" : String(line)
        }
        let changed = lines.map { $0 + "\n" }.joined()
        if changed != text { try volume.write(Array(changed.utf8), to: Self.resetEntry) }
    }

    /// Has the loader start a release only when there is no other.
    public mutating func condemn(_ number: Int) throws(SlotFailure) {
        try repair()
        guard let entry = self.entry(number), !entry.isBad else { return }
        try rename(number, to: BootEntry(number: number, triesLeft: 0, triesDone: max(1, entry.triesDone)))
    }

    private mutating func rename(_ number: Int, to entry: BootEntry) throws(SlotFailure) {
        guard let old = self.entry(number) else {
            throw SlotFailure("there is no entry of release \(number)")
        }
        if old == entry { return }
        try volume.rename("\(Self.folder)/\(old.fileName)", to: entry.fileName)
        entries = try read()
    }
}
