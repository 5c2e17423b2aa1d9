import Files

/// The EFI system partition: which releases the loader may start.
///
/// Every change begins with a repair: a loader that renames, or a cut of power, may have left one kernel image under two names.
public struct BootPartition {
    /// Starts that a new release has to be found good.
    public static let tries = 3
    static let folder = "EFI/Linux"
    private static let resetEntry = "loader/entries/factory-reset.conf"

    var volume: FATVolume
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

    /// The release that is started by an entry that is none: by the way back to the factory's document. Nil for any other name.
    public func release(behind name: String) throws(SlotFailure) -> BootEntry? {
        guard Self.resetEntry.hasSuffix("/\(name)") else { return nil }
        return try resetTarget().flatMap { BootEntry($0) }
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
        // Power may have failed between a name's change and the line that names it.
        if let named = try resetTarget(), !entries.contains(where: { $0.fileName == named }),
            let good = entries.last(where: \.isGood)
        {
            try pointReset(at: good)
        }
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
        if let kept = entry(number), kept.isGood { try pointReset(at: kept) }
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
        try pointReset(at: entry)
    }

    /// Has the loader start a release only when there is no other.
    public mutating func condemn(_ number: Int) throws(SlotFailure) {
        try repair()
        guard let entry = self.entry(number), !entry.isBad else { return }
        if let other = entries.last(where: { $0.number != number && $0.isGood }) { try pointReset(at: other) }
        try rename(number, to: BootEntry(number: number, triesLeft: 0, triesDone: max(1, entry.triesDone)))
    }

    private static let resetTarget = "efi /\(folder)/"

    /// The name of the entry that the factory reset starts; nil where the loader has no such entry.
    private func resetTarget() throws(SlotFailure) -> String? {
        try resetLines()?.first { $0.hasPrefix(Self.resetTarget) }.map { String($0.dropFirst(Self.resetTarget.count)) }
    }

    private func resetLines() throws(SlotFailure) -> [String]? {
        guard try volume.find(Self.resetEntry) != nil else { return nil }
        return String(decoding: try volume.read(Self.resetEntry), as: UTF8.self).split(separator: "\n").map(String.init)
    }

    /// Has the factory reset start a release that is good.
    private mutating func pointReset(at entry: BootEntry) throws(SlotFailure) {
        guard let lines = try resetLines(), try resetTarget() != entry.fileName else { return }
        let changed = lines.map { $0.hasPrefix("efi ") ? Self.resetTarget + entry.fileName : $0 }
        try volume.write(Array(changed.map { $0 + "\n" }.joined().utf8), to: Self.resetEntry)
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
