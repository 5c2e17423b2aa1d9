import Documents
import Files
import Glibc
import Planning
import PluginKit
import Processes

/// Runs the programs that check files of a plan, before anything changes.
///
/// A program runs in a ``Sandbox`` over the box's own /usr and /etc, in which /run/vcpe and /data have what
/// its plugin plans and nothing else: so the files are at their paths, and one may include another. It has
/// no network and can write only to its own /tmp. All that it finds there belongs to its user, who is not
/// root: otherwise it could not read a file that only root may read, such as a host key of sshd.
struct FileChecks {
    private struct Check: Hashable {
        var plugin: String
        var words: [String]
    }

    private struct Running {
        let check: Check
        let process: Command.Running
    }

    private let places: Places
    private let forPreviews: Bool

    /// Milliseconds that all checks of a plan may take, bytes that each may print, and the bytes of
    /// address space that each may use.
    private static let (patience, mostOutput, memory) = (10_000, 1 << 20, UInt64(1 << 30))
    /// The first of the numeric users that they run as: of the range that systemd leaves free, beside the
    /// plugins'. The kernel counts processes by user, so those of each plugin have one.
    private static let (firstUser, firstUserOfPreviews, users): (UInt32, UInt32, Int) = (64_700, 64_800, 100)

    /// - Parameter forPreviews: whether they run beside those of the engine.
    init(places: Places, forPreviews: Bool = false) { (self.places, self.forPreviews) = (places, forPreviews) }

    /// The complaints about files, each with its place in the document. Only the files of plugins
    /// are checked that have other files than before.
    ///
    /// - Parameter changed: resources that the plan adds, changes or removes.
    func problems(
        of plan: Plan, changed: [PlannedResource], site: Node, planner: Planner
    ) throws -> [String] {
        let unchecked = forPreviews ? plugins(lackingSecretsIn: plan) : []
        let checks = self.checks(of: plan, changed: changed).filter { !unchecked.contains($0.plugin) }
        if checks.isEmpty { return [] }
        let folder = try makeFolder()
        defer { try? FileSystem.remove(folder) }
        var (problems, running, secrets): ([String], [Running], [String]) = ([], [], [])
        func refuse(_ check: Check, _ reason: String) throws {
            guard let planned = plan.ordered.first(where: { Self.check(of: $0) == check }) else { return }
            let (path, position) = planner.origin(of: planned, in: site)
            let problem = Problem(
                position: position, path: path,
                message: "\(check.words[0]) refuses \(planned.key) of the plugin \(check.plugin): "
                    + reason.replacing(secrets, with: Node.mask))
            problems.append("error: \(problem)")
        }
        // Secrets that are made for the checks take of the checks' time.
        let end = Uptime.milliseconds + Self.patience
        // By plugin: where its files are, and the user who owns them.
        var sandboxes: [String: Sandbox] = [:]
        // Plugins whose files can't be laid out, such as for want of a secret.
        var refused: Set<String> = []
        for check in checks where !refused.contains(check.plugin) {
            guard access(check.words[0], X_OK) == 0 else {
                // As a service without its program: on a host that is no box, tests plan.
                guard FileSystem.exists(places.initSocket) else {
                    Log.say("\(check.words[0]) checks nothing: this system does not have it")
                    continue
                }
                try refuse(check, "this image does not have it; the definition's plugins say which features it has")
                continue
            }
            if sandboxes[check.plugin] == nil {
                let number = sandboxes.count + refused.count
                let sandbox = self.sandbox(number: number, in: folder)
                do {
                    secrets += try lay(plan, of: check.plugin, in: sandbox, at: "\(folder)/\(number)", until: end)
                } catch let error as EngineError {
                    try refuse(check, "it can't be started: \(error)")
                    refused.insert(check.plugin)
                    continue
                }
                sandboxes[check.plugin] = sandbox
            }
            var command = Command(check.words[0], Array(check.words.dropFirst()))
            command.sandbox = sandboxes[check.plugin]
            do {
                running.append(Running(check: check, process: try command.begin()))
            } catch {
                try refuse(check, "it can't be started: \(error)")
            }
        }
        while !running.isEmpty {
            var next: [Running] = []
            for job in running {
                do {
                    guard let result = try job.process.progress(limit: Self.mostOutput) else {
                        next.append(job)
                        continue
                    }
                    if result.status != 0 { try refuse(job.check, Self.complaint(result)) }
                } catch let error as Command.Overrun {
                    try refuse(job.check, "\(error)")
                }
            }
            running = next
            if running.isEmpty { break }
            guard Uptime.milliseconds < end else {
                for job in running { try refuse(job.check, "it took longer than \(Self.patience / 1000) s") }
                break
            }
            var polled = running.flatMap(\.process.polled)
            // No descriptor reports the end of a process that has closed its output.
            let closed = running.contains { $0.process.polled.isEmpty }
            poll(&polled, nfds_t(polled.count), closed ? 5 : Int32(max(1, end - Uptime.milliseconds)))
        }
        return problems
    }

    /// Where files are laid out. A preview may be killed at any time, and only one runs: what it leaves,
    /// the next one removes.
    private func makeFolder() throws -> String {
        guard forPreviews else {
            return try FileSystem.makeTemporaryDirectory(
                in: places.state, prefix: FileSystem.temporaryPrefix + "check")
        }
        let folder = "\(places.state)/preview-check"
        try FileSystem.remove(folder)
        try FileSystem.makeDirectory(folder)
        chmod(folder, 0o700)
        return folder
    }

    /// Plugins with a secret that the box has not made yet. A preview makes none, and checks none
    /// of their files.
    func plugins(lackingSecretsIn plan: Plan) -> Set<String> {
        let known = SecretStore(folder: places.secrets, scratch: places.state)
        let lacking = plan.ordered.filter { planned in
            guard let secret = planned.resource.as(SecretResource.self) else { return false }
            return (try? known.filled(Secrets.reference(secret.name))) == nil
        }
        return Set(lacking.map(\.plugin))
    }

    /// The checks of plugins whose files change, each once, in the order of their files.
    private func checks(of plan: Plan, changed: [PlannedResource]) -> [Check] {
        let kinds = [FileResource.kind, DirectoryResource.kind, SecretResource.kind]
        let plugins = Set(changed.filter { kinds.contains($0.key.kind) }.map(\.plugin))
        if plugins.isEmpty { return [] }
        var seen: Set<Check> = []
        return plan.ordered.compactMap(Self.check).filter { check in
            plugins.contains(check.plugin) && seen.insert(check).inserted
        }
    }

    private static func check(of planned: PlannedResource) -> Check? {
        guard let file = planned.resource.as(FileResource.self), !file.check.isEmpty else { return nil }
        return Check(plugin: planned.plugin, words: file.check)
    }

    private static func complaint(_ result: Command.Result) -> String {
        let lines = Excerpt.ends(of: result.errors.isEmpty ? result.output : result.errors)
        return "it ended with \(ExitCode.text(result.status))"
            + (lines.isEmpty ? " and printed nothing" : ":" + Excerpt.text(lines))
    }

    /// Of the plugin with a number, whose files are in the folder of that name.
    private func sandbox(number: Int, in folder: String) -> Sandbox {
        let own = "\(folder)/\(number)"
        var sandbox = Sandbox(
            tree: "/", folders: [.init("\(own)/run", at: "run"), .init("\(own)/data", at: "data")],
            memory: Self.memory)
        (sandbox.root, sandbox.hasUserNamespace, sandbox.purpose) = ("\(own)/root", false, .checking)
        sandbox.user = (forPreviews ? Self.firstUserOfPreviews : Self.firstUser) + UInt32(number % Self.users)
        return sandbox
    }

    /// Writes a plugin's directories and files into a folder.
    ///
    /// - Parameter end: when secrets must have been made, in milliseconds of the kernel's time.
    /// - Returns: the secrets in them.
    private func lay(
        _ plan: Plan, of plugin: String, in sandbox: Sandbox, at folder: String, until end: Int
    ) throws -> [String] {
        var staged = Places()
        (staged.run, staged.data) = ("\(folder)/run/vcpe", "\(folder)/data")
        for path in [folder, "\(folder)/root", "\(folder)/run", staged.run, staged.data] {
            try FileSystem.makeDirectory(path)
        }
        let files = PluginFiles(places: staged)
        func place(_ path: String) throws -> String {
            guard let location = files.location(path) else { throw EngineError("\(path): no plugin's path") }
            let place = "\(location.root)/\(location.path)"
            if let parent = FileSystem.parent(of: place) { try FileSystem.makeDirectory(parent) }
            return place
        }
        func own(_ path: String, _ mode: Int) throws {
            guard chown(path, sandbox.user, sandbox.user) == 0, chmod(path, mode_t(mode)) == 0 else {
                throw SystemError("chown", path)
            }
        }
        let planned = plan.ordered.filter { $0.plugin == plugin }.map(\.resource)
        for directory in planned.of(DirectoryResource.self) {
            let path = try place(directory.path)
            try FileSystem.makeDirectory(path)
            try own(path, directory.mode & 0o777 | 0o500)
        }
        var filled: Set<String> = []
        let secrets = try Self.secrets(
            planned.of(SecretResource.self), from: SecretStore(folder: places.secrets, scratch: folder),
            SecretStore(folder: "\(folder)/secrets", scratch: folder), until: end)
        for file in planned.of(FileResource.self) {
            let content = try Secrets.filled(file.content) { name in
                let secret = try secrets(name)
                filled.formUnion(secret.split(separator: "\n").map(String.init).filter { $0.utf8.count > 3 })
                return secret
            }
            let path = try place(file.path)
            try FileSystem.replace(path, with: content, mode: 0o600)
            try own(path, file.mode & 0o777 | 0o400)
        }
        return filled.sorted { $0.utf8.count > $1.utf8.count }
    }

    /// Reads secrets, and makes those that the box does not have yet, for the check alone.
    private static func secrets(
        _ planned: [SecretResource], from known: SecretStore, _ made: SecretStore, until end: Int
    ) throws -> (String) throws -> String {
        { name in
            if let secret = try? known.filled(Secrets.reference(name)) { return secret }
            let rest = Double(max(0, end - Uptime.milliseconds)) / 1000
            try made.make(planned.filter { $0.name == name }, within: rest)
            return try made.filled(Secrets.reference(name))
        }
    }
}
