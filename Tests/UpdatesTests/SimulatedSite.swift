import Documents
import Engine
import Files
import Glibc
import Processes
import TestSupport
import Updates

/// The configuration of a ``SimulatedBox``: the box's own engine on a data folder that outlives
/// releases. Each release has a plugin that accepts no other release's format. Also what the state
/// should be.
final class SimulatedSite {
    struct Broken: Error, CustomStringConvertible { var description: String }

    private let folder: String
    private let network: NetworkNamespace
    private var engine: RunningProcess?

    /// Documents as they were committed, by number.
    private(set) var commits: [Int: String] = [:]
    /// The active commit, and the release that ran last.
    private var head: (commit: Int?, release: String?) = (nil, nil)
    /// The last active commit of each release.
    private var heads: [String: Int?] = [:]
    /// What a daemon has written and in which format, and the copies of other formats.
    private var state: (text: String?, format: Int) = (nil, 1)
    private var states: [Int: String] = [:]
    private(set) var falls = 0

    init(in parent: String) throws {
        folder = try FileSystem.makeTemporaryDirectory(in: parent, prefix: "site")
        network = try NetworkNamespace()
        // Plugins run as unprivileged users, who must reach this folder.
        for path in [parent, folder] { chmod(path, 0o755) }
        for name in ["data", "run"] { try FileSystem.makeDirectory("\(folder)/\(name)") }
        let program = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/.build/box/vcpe-box"
        guard symlink(program, "\(folder)/vcpe-engine") == 0 else { throw SystemError("symlink", program) }
    }

    deinit {
        kill()
        try? FileSystem.remove(folder)
    }

    private static let plugin = """
        #!/bin/sh
        input=$(cat)
        case "$1" in
        migrate) echo "$input" | sed 's/.*"configuration":\\({[^}]*}\\).*/\\1/; s/"format":"[^"]*"/"format":"VERSION"/';;
        plan)
            case "$input" in *'"format":"VERSION"'*) ;; *) echo "not of VERSION" >&2; exit 1;; esac
            word=$(echo "$input" | sed -n 's/.*"word":"\\([^"]*\\)".*/\\1/p')
            cat <<END
        {"id":"/run/vcpe/notes","kind":"directory","mode":493,"owner":"root","path":"/run/vcpe/notes"}
        {"content":"$word by VERSION","id":"/run/vcpe/notes/word","kind":"file","mode":384,"owner":"root","path":"/run/vcpe/notes/word"}
        END
        esac

        """

    /// Two consecutive releases share a format.
    private static func format(of version: String) -> Int { (Int(version.suffix(1)) ?? 0) / 2 + 1 }

    private func document(_ word: String, _ version: String) -> String {
        "notes: {word: \(word), format: v\(version)}\n"
    }

    /// The image of a release, and the arguments of its engine.
    private func places(of version: String) throws -> [String] {
        let image = "\(folder)/\(version)"
        if !FileSystem.exists(image) {
            try FileSystem.makeDirectory("\(image)/plugins/notes")
            try FileSystem.replace(
                "\(image)/plugins/notes/notes", with: Self.plugin.replacing("VERSION", with: "v\(version)"), mode: 0o755
            )
            let manifest: JSON = [
                "name": "notes", "version": .text(version), "summary": "of a test", "contract": 1, "key": "notes",
                "yang": "none", "features": [], "resources": ["file", "directory"],
                "state-format": .integer(Self.format(of: version)),
            ]
            try FileSystem.replace("\(image)/plugins/notes/manifest.json", with: manifest.pretty)
            try FileSystem.replace("\(image)/image", with: "name test\nversion \(version)\n")
            try FileSystem.replace("\(image)/site.yaml", with: document("factory", version))
        }
        var words = ["--factory-site", "\(image)/site.yaml", "--modprobe", "/bin/true", "--image", "\(image)/image"]
        words += ["--plugins", "\(image)/plugins"]
        for name in ["run", "data"] { words += ["--\(name)", "\(folder)/\(name)"] }
        for name in ["logs", "devices", "firmware-site", "site-keys"] { words += ["--\(name)", "\(folder)/none"] }
        return words
    }

    private func program(_ verb: [String], of version: String) throws -> Command {
        Command("\(folder)/vcpe-engine", verb + (try places(of: version)))
    }

    private func launch(_ version: String) throws {
        kill()
        try FileSystem.remove("\(folder)/run/engine.sock")
        let log = try File("\(folder)/log", O_WRONLY | O_CREAT | O_APPEND)
        engine = try network.run { try program([], of: version).start(output: log) }
    }

    private func start(_ version: String) throws {
        try launch(version)
        guard Wait.until(20, every: 0.005, isDone: { (try? ask(["do": "status"])) != nil }) else {
            throw Broken(description: "the engine of \(version) doesn't come: \(log)")
        }
    }

    private func kill() {
        engine?.kill()
        while let engine, engine.poll() == nil { usleep(1000) }
        engine = nil
    }

    private var log: String {
        (try? FileSystem.read("\(folder)/log")).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    private func ask(_ request: JSON) throws -> JSON {
        try EngineClient(socket: "\(folder)/run/engine.sock").ask(request)
    }

    // MARK: - What happens to it

    /// A release is about to get its entry: its engine must accept the active document.
    func check(_ version: String) throws {
        let result = try network.run { try program(["check"], of: version).run() }
        guard result.status == 0 else { throw Broken(description: "\(version) refuses: \(result.errorText)") }
    }

    /// Just before the entry is added.
    func handOver(to release: AvailableRelease) throws {
        try release.removeOldState(data: "\(folder)/data")
        heads[release.version] = nil
        states = [:]
    }

    /// A release boots and follows what it should; then documents are committed, and its engine
    /// crashes at any moment.
    func comesUp(_ version: String, _ random: inout Random) throws {
        let expected = head.release == version ? head.commit : heads[version] ?? head.commit
        if random.next(4) == 0 {
            try launch(version)
            usleep(UInt32(random.next(60_000)))
            falls += 1
        }
        try start(version)
        head = (expected, version)
        heads[version] = .some(expected)
        changeFormat(to: Self.format(of: version))
        try examine(version)
        // Its daemon continues with the state that is there.
        state.text = "\(state.text ?? "") \(version)"
        try FileSystem.makeDirectory("\(folder)/data/notes")
        try FileSystem.replace(stateFile, with: state.text ?? "")
        for _ in 0..<random.next(3) {
            let text = "\(document("w\(random.next(1 << 30))", version))# as it was given\n"
            try commit(text, on: version, fallsWithin: random.next(3) == 0 ? Double(random.next(50)) / 1000 : nil)
            try examine(version)
        }
        kill()
    }

    private var stateFile: String { "\(folder)/data/notes/state" }

    /// State of an earlier format is restored; a later format begins with the state of the one
    /// before, of which a copy is kept.
    private func changeFormat(to own: Int) {
        guard own != state.format else { return }
        let text = states.removeValue(forKey: own) ?? (own > state.format ? state.text : nil)
        states[state.format] = state.text
        state = (text, own)
    }

    /// - Parameter fallsWithin: seconds after which the engine is killed.
    private func commit(_ text: String, on version: String, fallsWithin: Double?) throws {
        let request: JSON = ["do": "apply", "name": "site.yaml", "site": .text(text)]
        guard let fallsWithin, let engine else { return try isCommitted(try ask(request), text, version) }
        let killer = try Command("/bin/sh", ["-c", "sleep \(fallsWithin); kill -9 \(engine.pid)"]).start(
            output: File("/dev/null", O_WRONLY))
        let answer = try? ask(request)
        while killer.poll() == nil { usleep(1000) }
        falls += 1
        try start(version)
        if let answer { return try isCommitted(answer, text, version) }
        // The old commit is active, or the new one.
        guard let number = try ask(["do": "status"])["commit"]?.integer, number != head.commit else { return }
        try isCommitted(["commit": .integer(number)], text, version)
    }

    private func isCommitted(_ answer: JSON, _ text: String, _ version: String) throws {
        guard let number = answer["commit"]?.integer, commits[number] == nil else {
            throw Broken(description: "\(answer.line): \(log)")
        }
        commits[number] = text
        head.commit = number
        heads[version] = .some(number)
    }

    /// - Throws: if the engine follows another document than it should, or a document is lost or
    ///   changed.
    private func examine(_ version: String) throws {
        let followed = try ask(["do": "status"])["commit"]?.integer
        let wanted = word(of: head.commit.flatMap { commits[$0] } ?? document("factory", version)) + " by v\(version)"
        guard followed == head.commit, try written == wanted else {
            throw Broken(
                description:
                    "\(version) follows \(followed ?? 0), not \(head.commit ?? 0), and has \(try written), not \(wanted): \(log)"
            )
        }
        let there = FileSystem.exists(stateFile) ? String(decoding: try FileSystem.read(stateFile), as: UTF8.self) : nil
        guard there == state.text else {
            throw Broken(
                description: "\(version) finds the state \(there ?? "none"), not \(state.text ?? "none"): \(log)")
        }
        for (number, text) in commits {
            let kept = try ask(["do": "show-commit", "number": .integer(number)])["site"]?.text
            guard kept == text else { throw Broken(description: "commit \(number) is \(kept ?? "gone"), not \(text)") }
        }
    }

    private var written: String {
        get throws { String(decoding: try FileSystem.read("\(folder)/run/notes/word"), as: UTF8.self) }
    }

    private func word(of document: String) -> String {
        String(document.drop { $0 != "{" }.dropFirst("{word: ".count).prefix { $0 != "," })
    }

    /// Each commit can be activated again.
    func giveAgain(_ version: String, _ random: inout Random) throws {
        guard !commits.isEmpty else { return }
        let (number, text) = commits.sorted { $0.key < $1.key }[random.next(commits.count)]
        try start(version)
        let answer = try ask(["do": "rollback", "number": .integer(number)])
        guard answer["commit"] != nil else {
            throw Broken(description: "\(number) does not come again: \(answer.line)")
        }
        guard try written == "\(word(of: text)) by v\(version)" else {
            throw Broken(description: "\(try written) in place of commit \(number), \(text)")
        }
        kill()
    }
}
