import Nftables
import Planning
import PluginKit

extension Batch {
    /// Seconds before its end in which a member is left to go by itself: it may be gone before this is with the kernel.
    private static let lastSeconds = 5
    /// Seconds beyond which an end is none: the kernel counts in 64 bits of less than nanoseconds.
    private static let forever = 3_155_760_000

    /// Puts the members into a set that came, and takes those out that went.
    mutating func bring(
        _ set: NamedSet, from old: FedSet?, to new: FedSet, now: Int
    ) throws(UnsupportedRuleset) {
        if let old, old.version == new.version { return }
        let (went, came) = new.difference(from: old)
        let come = came.filter { $0.until.map { $0 > now } ?? true }
        let again = Set(come.map(\.values))
        let gone = went.filter { member in
            member.until.map { $0 > now + Self.lastSeconds || again.contains(member.values) && $0 > now } ?? true
        }
        if !gone.isEmpty { try delete(gone.map { SetElement(new.key(of: $0)) }, from: set) }
        if !come.isEmpty {
            let elements = come.map { member in
                let left = member.until.map { $0 - now }
                return SetElement(new.key(of: member), timeout: left.flatMap { $0 < Self.forever ? $0 : nil })
            }
            try add(elements, to: set)
        }
    }
}
