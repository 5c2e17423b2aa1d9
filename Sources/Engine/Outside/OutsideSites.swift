import Disks
import Documents
import Files
import Glibc
import Planning
import Processes

/// Site documents that come from outside: on a disk whose file system is labelled `vcpe-site`, or from the machine that
/// emulates the box.
struct OutsideSites {
    /// A document, and its source.
    struct Found: Sendable {
        var source: String
        /// It was tried before.
        var isKnown = false
        var text: String
        /// Why no key of the image has signed it; nil for one that is signed.
        var refusal: String?
    }

    /// Where a document may be.
    enum Source: Sendable {
        case firmware
        case disk(name: String, identity: String)
    }

    static let label = "vcpe-site"

    private let places: Places
    /// Disks that were read, each with how often it could not be: one that is removed and plugged in again counts anew.
    private var known: [String: Int] = [:]
    private static let mostFailures = 10
    private var knowsFirmware = false
    /// Disks that could not be read, as in ``Source``.
    private var unreadable: [(name: String, identity: String)] = []
    /// What could not be taken yet, and when it is tried again, in milliseconds of the kernel's time.
    private var postponed: [(found: Found, until: Int)] = []
    private static let postponement = 3000

    init(places: Places) { self.places = places }

    /// Has a document found again a little later.
    mutating func postpone(_ found: Found) { postponed.append((found, Uptime.milliseconds + Self.postponement)) }

    /// What is to be tried again.
    mutating func due() -> [Found] {
        let now = Uptime.milliseconds
        defer { postponed.removeAll { $0.until <= now } }
        return postponed.filter { $0.until <= now }.map(\.found)
    }

    /// What has appeared since the last call, and is to be read.
    mutating func appeared() -> [Source] {
        var sources: [Source] = []
        if !knowsFirmware, FileSystem.exists(places.firmwareSite) {
            knowsFirmware = true
            sources.append(.firmware)
        }
        guard places.hasStickSites else { return sources }
        let folder = "/sys/class/block"
        var present: [String: Int] = [:]
        for name in (try? FileSystem.list(folder)) ?? [] {
            let identity = "\(name) \(Self.sequence(of: "\(folder)/\(name)"))"
            present[identity] = known[identity] ?? 0
            if known[identity] == nil { sources.append(.disk(name: name, identity: identity)) }
        }
        for (name, identity) in unreadable where present[identity] != nil {
            sources.append(.disk(name: name, identity: identity))
        }
        unreadable = []
        known = present
        return sources
    }

    /// Has a disk that could not be read tried again, by the next call of ``appeared()``.
    mutating func retry(_ source: Source) {
        guard case .disk(let name, let identity) = source, let failures = known[identity],
            failures < Self.mostFailures
        else { return }
        known[identity] = failures + 1
        unreadable.append((name, identity))
    }

    /// Tells one disk from the next that is called the same.
    private static func sequence(of folder: String) -> String {
        guard let real = try? FileSystem.realPath(folder) else { return "" }
        for path in ["\(real)/diskseq", "\(FileSystem.parent(of: real) ?? real)/diskseq"] {
            if let bytes = try? File(path).read(32, at: 0) { return String(decoding: bytes, as: UTF8.self) }
        }
        return ""
    }

    /// Reads a document, and checks its signature. A dying stick may keep it waiting: it is for
    /// another thread.
    ///
    /// - Returns: nil where there is none.
    /// - Throws: for a disk that cannot be read, or not yet.
    func read(_ source: Source) throws(SystemError) -> Found? {
        switch source {
        case .firmware:
            return read(places.firmwareSite, StickReader.most).map {
                found(
                    "the machine's firmware", $0, signature: read(places.firmwareSignature, StickReader.mostOfSignature)
                )
            }
        case .disk(let name, let identity):
            // An engine that never came back from a dying stick leaves that one alone.
            if (try? FileSystem.read(places.outsideTried)) == Array(identity.utf8) { return nil }
            let device = "\(places.devices)/\(name)"
            guard let type = try LabelledVolume.type(of: device, label: Self.label) else { return nil }
            guard type == .fat else {
                places.consoles.say("\(name), labelled \(Self.label), is not read: its file system must be FAT")
                return nil
            }
            try? FileSystem.replace(places.outsideTried, with: identity)
            defer { try? FileSystem.remove(places.outsideTried) }
            do {
                let read = try StickReader.read(device)
                return found("the stick", read.document, signature: read.signature)
            } catch {
                places.consoles.say("\(name), labelled \(Self.label), is not read: \(error)")
                return nil
            }
        }
    }

    private func found(_ source: String, _ text: [UInt8], signature: [UInt8]?) -> Found {
        var refusal: String?
        do { try places.verifySite(text, signature) } catch { refusal = "\(error)" }
        return Found(source: source, text: String(decoding: text, as: UTF8.self), refusal: refusal)
    }

    /// A plain file within its bound; nil for anything else.
    private func read(_ path: String, _ most: Int) -> [UInt8]? {
        guard let file = try? File(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), let status = try? file.status(),
            status.st_mode & S_IFMT == S_IFREG
        else { return nil }
        // A file of the firmware doesn't say how long it is.
        let bytes = try? file.read(most + 1, at: 0)
        return bytes.flatMap { $0.isEmpty || $0.count > most ? nil : $0 }
    }
}
