import CResolver
import Clocks
import Engine
import Files
import Glibc
import PluginKit

/// `resolve-names FILE FOLDER`: a service that asks for domain names as often as their answers hold, and writes for each set of
/// FILE (`set KEY NAME…` a line) a file with the addresses, for the engine. It does nothing else, and needs no right for it.
struct NameResolution {
    /// Seconds: the shortest and the longest time between two questions, the time after a failed one, and how long an address
    /// stays that is in no answer any more: hosts behind the box may have asked before it.
    private static let (shortest, longest, retry, grace) = (5, 3600, 15, 900)
    /// Addresses of one name and family in an answer, and of a name in all.
    private static let (most, mostKept) = (256, 1024)

    private struct Name {
        /// Until when each address stays.
        var addresses: [IPAddress: Int] = [:]
        var due = 0
        /// Why there was no answer, and since when.
        var trouble: (words: String, since: Int)?
        /// Nobody has ever answered for it.
        var isSilent = false
    }

    private let sets: [(key: String, names: [String])]
    private let folder: String
    private var names: [String: Name]
    private var written: [String: String] = [:]
    /// What a predecessor has found out, by set.
    private var inherited: [String: [IPAddress: Int]] = [:]

    static func run(_ arguments: [String]) -> Int32 {
        guard arguments.count == 2 else {
            Log.say("usage: resolve-names FILE FOLDER")
            return 64
        }
        // One question of many must not wait for a server that is away.
        setenv("RES_OPTIONS", "timeout:2 attempts:2", 0)
        do {
            var resolution = try NameResolution(file: arguments[0], folder: arguments[1])
            while true { sleep(UInt32(max(1, resolution.step()))) }
        } catch {
            Log.say("resolve-names: \(error)")
            return 1
        }
    }

    init(file: String, folder: String) throws {
        let lines = String(decoding: try FileSystem.read(file), as: UTF8.self).split(separator: "\n")
        sets = lines.compactMap { line in
            let words = line.split(separator: " ").map(String.init)
            return words.count > 2 && words[0] == "set" ? (words[1], Array(words[2...])) : nil
        }
        self.folder = folder
        names = Dictionary(sets.flatMap(\.names).map { ($0, Name()) }) { $1 }
        for (key, _) in sets {
            guard let bytes = try? FileSystem.read("\(folder)/\(key)") else { continue }
            for member in FeedMember.read(String(decoding: bytes, as: UTF8.self)).members {
                guard case .addresses(let range) = member.what, let until = member.until else { continue }
                inherited[key, default: [:]][range.first] = until
            }
        }
    }

    /// Asks for what is due, and writes what is new.
    ///
    /// - Returns: seconds until something is due again.
    private mutating func step() -> Int {
        for name in names.keys.sorted() where names[name]?.due ?? 0 <= Uptime.seconds {
            ask(name)
            // What is known is not held up by what nobody answers.
            write()
        }
        write()
        return (names.values.map(\.due).min() ?? Uptime.seconds + Self.longest) - Uptime.seconds
    }

    private mutating func ask(_ name: String) {
        guard var known = names[name] else { return }
        let now = time(nil)
        var (found, seconds): ([IPAddress], Int) = ([], Self.longest)
        var (isUnknown, silent): (Bool, [IPAddress.Family]) = (false, [])
        for family in IPAddress.Family.allCases {
            var bytes = [UInt8](repeating: 0, count: Self.most * family.length)
            var holds: UInt32 = 0
            let count = cresolver_addresses(name, family.number, &bytes, Int32(Self.most), &holds)
            if count == -1 { silent.append(family) }
            isUnknown = isUnknown || count == -2
            if count > 0 { seconds = min(seconds, Int(holds)) }
            for i in 0..<max(0, Int(count)) {
                let address = IPAddress(bytes[i * family.length..<(i + 1) * family.length])
                if let address { found.append(address) }
            }
        }
        let wait = min(max(seconds, Self.shortest), Self.longest)
        for address in found where known.addresses[address] ?? 0 < now + Self.grace + wait {
            known.addresses[address] = now + 2 * Self.grace + wait
        }
        let words: String? =
            !found.isEmpty
            ? nil : !silent.isEmpty ? "nobody answers for it" : isUnknown ? "it does not exist" : "it has no address"
        // Who can't be asked may well be where he was.
        for (address, until) in known.addresses where silent.contains(address.family) {
            known.addresses[address] = max(until, now + Self.grace)
        }
        if words != known.trouble?.words {
            Log.say("\(name): \(words ?? "\(found.count) addresses")")
            known.trouble = words.map { ($0, now) }
        }
        known.isSilent = !silent.isEmpty && known.addresses.isEmpty
        known.due = Uptime.seconds + (words == nil ? wait : Self.retry)
        known.addresses = known.addresses.filter { $0.value > now }
        if known.addresses.count > Self.mostKept {
            // Whoever answers otherwise each time must not fill the box.
            let kept = known.addresses.sorted { $0.value > $1.value }.prefix(Self.mostKept)
            known.addresses = Dictionary(kept.map { ($0.key, $0.value) }) { $1 }
        }
        names[name] = known
    }

    private mutating func write() {
        for (key, wanted) in sets {
            // What a predecessor found out stands until it is known better, and as long as somebody doesn't answer.
            if wanted.contains(where: { names[$0]?.due == 0 }) { continue }
            var ends: [IPAddress: Int] = [:]
            if wanted.contains(where: { names[$0]?.isSilent == true }) {
                let now = time(nil)
                ends = (inherited[key] ?? [:]).mapValues { max($0, now + Self.grace) }
            } else {
                inherited[key] = nil
            }
            for name in wanted { ends.merge(names[name]?.addresses ?? [:]) { max($0, $1) } }
            replace(key, ends.map { "\($0.key) until \($0.value)\n" }.sorted().joined())
        }
        let lines = names.sorted { $0.key < $1.key }.map { name, known in
            "\(name)\t\(known.addresses.count)\t"
                + (known.trouble.map { "\($0.words)\t\($0.since)" } ?? (known.due == 0 ? "not asked yet\t0" : "\t0"))
                + "\n"
        }
        replace(".status", lines.joined())
    }

    private mutating func replace(_ name: String, _ text: String) {
        if written[name] == text { return }
        do {
            try FileSystem.replace("\(folder)/\(name)", with: text, mode: 0o644)
            written[name] = text
        } catch {
            Log.say("resolve-names: \(error)")
        }
    }
}
