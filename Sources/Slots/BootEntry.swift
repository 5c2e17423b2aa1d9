/// A kernel image on the EFI system partition, `vcpe-NUMBER.efi`: with `+LEFT` or `+LEFT-DONE` behind the number while it is on trial (systemd: automatic boot
/// assessment). The loader lowers LEFT at each start; an entry with none left comes after all others.
public struct BootEntry: Sendable, Hashable, Comparable {
    /// The order in which they were installed; the highest that may be tried is started.
    public let number: Int
    /// Starts that are left; nil once it was found good.
    public let triesLeft: Int?
    /// Starts that did not turn out well.
    public let triesDone: Int

    public init(number: Int, triesLeft: Int?, triesDone: Int = 0) {
        (self.number, self.triesLeft, self.triesDone) = (number, triesLeft, triesDone)
    }

    /// Reads a file's name; nil for what is none of ours.
    public init?(_ name: String) {
        let name = name.lowercased()
        guard name.hasPrefix("vcpe-"), name.hasSuffix(".efi") else { return nil }
        let parts = name.dropFirst(5).dropLast(4).split(separator: "+", omittingEmptySubsequences: false)
        guard let first = parts.first, let number = Self.number(first), parts.count <= 2 else { return nil }
        guard parts.count == 2 else {
            self.init(number: number, triesLeft: nil)
            return
        }
        let counters = parts[1].split(separator: "-", omittingEmptySubsequences: false).map(Self.number)
        guard (1...2).contains(counters.count), let left = counters[0], let done = counters.count == 2 ? counters[1] : 0
        else { return nil }
        self.init(number: number, triesLeft: left, triesDone: done)
    }

    private static func number(_ text: Substring) -> Int? {
        guard (1...9).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
        return Int(text)
    }

    public var fileName: String {
        guard let triesLeft else { return "vcpe-\(number).efi" }
        return "vcpe-\(number)+\(triesLeft)\(triesDone > 0 ? "-\(triesDone)" : "").efi"
    }

    public var isGood: Bool { triesLeft == nil }
    /// The loader has given it up.
    public var isBad: Bool { triesLeft == 0 }

    public static func < (left: BootEntry, right: BootEntry) -> Bool {
        (left.number, left.triesLeft ?? .max, right.triesDone) < (right.number, right.triesLeft ?? .max, left.triesDone)
    }
}
