import Accounts
import CSystem
import Callers
import Clocks
import Documents
import Files
import Glibc
import Processes

/// The service behind `vcpectl upgrade`: each request is a process of its own, so that one may look
/// while another installs. By the site's wish it installs by itself, too, in the window.
struct Serving {
    static let socket = "/run/vcpe/upgrade/socket"
    private static let mostBytes = 65_536
    /// Seconds for a request to arrive, all of it: others wait meanwhile.
    private static let patience = 2

    /// What each role may, the least first.
    private static let verbs: [(role: String, verbs: Set<String>)] = [
        ("read-only", ["status", "history", "slots"]), ("operator", ["check"]),
        ("administrator", ["download", "install", "cancel", "loader"]),
    ]

    private let settings: UpgradeSettings
    private let listener: Int32

    static func run() -> Int32 {
        do {
            try Serving().loop()
        } catch {
            say("\(error)\n", to: 2)
            return 1
        }
    }

    private init() throws {
        settings = try UpgradeSettings()
        // What verifies and installs has no network, and neither has what it starts.
        if settings.hasFetcher, csystem_new_network() != 0 { throw SystemError("unshare", "the network") }
        listener = csystem_listen_unix(Self.socket, 0)
        guard listener >= 0 else { throw SystemError("bind", Self.socket) }
        guard chown(Self.socket, uid_t.max, gid_t(settings.groups["read-only"] ?? 0)) == 0,
            chmod(Self.socket, 0o660) == 0
        else { throw SystemError("chown", Self.socket) }
    }

    private func loop() -> Never {
        let share = UpgradableBox.share
        var lastCheck: Int?
        while true {
            var polled = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
            let isAsked = poll(&polled, 1, settings.looks == nil ? -1 : 20_000) > 0
            // What ended since; nobody asks how.
            while waitpid(-1, nil, WNOHANG) > 0 {}
            if isAsked { serve() }
            // What came before has its end first: the next look is an hour away.
            if settings.looks?.isDue(time: time(nil), uptime: Uptime.seconds, lastCheck: lastCheck, share: share)
                == true,
                Upgrader.isSettled
            {
                lastCheck = Uptime.seconds
                start(["automatic"], output: 2)
            }
        }
    }

    /// Takes a request: a line of JSON with `words`; the process that does it answers.
    private func serve() {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else { return }
        defer { close(connection) }
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        var request: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        let end = Uptime.seconds + Self.patience
        while request.last != UInt8(ascii: "\n"), request.count < Self.mostBytes {
            var polled = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
            guard poll(&polled, 1, Int32(max(0, end - Uptime.seconds) * 1000)) > 0 else { return }
            let count = recv(connection, &buffer, buffer.count, 0)
            guard count > 0 else { return }
            request += buffer[..<count]
        }
        let words = (try? JSON.parse(request))?["words"]?.list?.compactMap(\.text) ?? []
        let (user, process) = (csystem_peer(connection), csystem_peer_process(connection))
        if let refusal = refusal(words, connection) {
            // Who asked may be gone by now: that must not end the service.
            let answer = Array((JSON.object(["error": .text(refusal)]).line + "\n").utf8)
            _ = send(connection, answer, answer.count, Int32(MSG_NOSIGNAL))
            // A process of its own: an engine that does not answer keeps no caller waiting.
            start(["refused", String(user), String(process), refusal] + words.prefix(4), output: 2)
        } else {
            start(["answer", String(user), String(process)] + words, output: connection)
        }
    }

    private func refusal(_ words: [String], _ connection: Int32) -> String? {
        guard let index = Self.verbs.firstIndex(where: { $0.verbs.contains(words.first ?? "") }) else {
            let known = Self.verbs.flatMap { $0.verbs.sorted() }.joined(separator: ", ")
            return "there is no upgrade \(words.first ?? ""); there are \(known)"
        }
        let caller = Caller(connection: connection)
        let units = InstalledUnits()
        let isUser = caller.user != 0 && caller.isLogin(units.unit)
        let wanted = Self.verbs[index...].compactMap { settings.groups[$0.role] }.map { UInt32($0) }
        // Of the login, and asked anew: a role may have been taken away since.
        guard caller.holds(.engine, units.unit) || isUser && !caller.groups(among: wanted, connection).isEmpty else {
            return "upgrade \(words[0]) is for the role \(Self.verbs[index].role)"
        }
        return nil
    }

    private func start(_ words: [String], output: Int32) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        let argv = (["vcpe-updater"] + words).map { strdup($0) } + [nil]
        defer { for pointer in argv { free(pointer) } }
        var pid: pid_t = 0
        posix_spawn(&pid, "/proc/self/exe", &actions, nil, argv, environ)
    }
}
