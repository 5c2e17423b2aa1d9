import Files
import Glibc

/// A disk in memory that remembers what was written, and what it would hold had power failed on the way.
public final class RecordedDisk: RandomAccess {
    /// A sector that was written, or all that was written before is on the disk.
    public enum Event: Sendable {
        case write(sector: Int, bytes: [UInt8])
        case flush
    }

    public static let sector = 512
    public let path = "(recorded)"
    private var bytes: [UInt8]
    public private(set) var events: [Event] = []

    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    public func read(_ count: Int, at offset: Int) -> [UInt8] {
        Array(bytes[min(offset, bytes.count)..<min(offset + count, bytes.count)])
    }

    public func write(_ new: [UInt8], at offset: Int) throws(SystemError) {
        guard offset >= 0, offset + new.count <= bytes.count else { throw SystemError("pwrite", path, code: ENOSPC) }
        bytes.replaceSubrange(offset..<offset + new.count, with: new)
        // A sector is written whole or not at all; nothing is said of more than one.
        let (first, last) = (offset / Self.sector, (offset + new.count - 1) / Self.sector)
        for sector in first...max(first, last) where !new.isEmpty {
            events.append(.write(sector: sector, bytes: read(Self.sector, at: sector * Self.sector)))
        }
    }

    public func sync() { events.append(.flush) }

    /// The state after some of the events, over the one before all of them.
    public struct State {
        public var sectors: [Int: [UInt8]] = [:]

        public init() {}

        public mutating func apply(_ event: Event) {
            if case .write(let sector, let bytes) = event { sectors[sector] = bytes }
        }

        /// Onto what was there before the events.
        public func over(_ before: [UInt8]) -> RecordedDisk {
            var bytes = before
            for (sector, content) in sectors {
                bytes.replaceSubrange(
                    sector * RecordedDisk.sector..<sector * RecordedDisk.sector + content.count, with: content)
            }
            return RecordedDisk(bytes)
        }
    }

    /// Calls `body` with states that a cut of power may leave: after each event in their order, and between two flushes some writes without those before
    /// them.
    ///
    /// - Parameters:
    ///   - every: of the prefixes, one in so many; all for 1.
    ///   - shuffled: states for each stretch between two flushes.
    public static func cuts(
        _ events: [Event], every: Int = 1, shuffled: Int, random: inout Random, _ body: (State) throws -> Void
    ) rethrows {
        var (safe, state, waiting) = (State(), State(), [Event]())
        for (number, event) in events.enumerated() {
            if case .flush = event {
                for _ in 0..<(waiting.count > 1 ? shuffled : 0) {
                    var torn = safe
                    for write in waiting where random.next(2) == 0 { torn.apply(write) }
                    try body(torn)
                }
                (safe, waiting) = (state, [])
            } else {
                state.apply(event)
                waiting.append(event)
            }
            if number % every == 0 { try body(state) }
        }
        try body(state)
    }

    /// One state that a cut of power may leave, somewhere in the events: half of the time with some of the writes since the last flush missing.
    public static func cut(_ events: [Event], random: inout Random) -> State {
        var (safe, state, waiting) = (State(), State(), [Event]())
        for event in events.prefix(random.next(events.count + 1)) {
            if case .flush = event { (safe, waiting) = (state, []) } else { waiting.append(event) }
            state.apply(event)
        }
        guard random.next(2) == 0 else { return state }
        for write in waiting where random.next(2) == 0 { safe.apply(write) }
        return safe
    }
}
