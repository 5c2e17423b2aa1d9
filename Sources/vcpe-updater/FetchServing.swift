import CSystem
import Files
import Glibc
import Transfers

/// The service that fetches for the updater: it parses what servers send, has the network, and
/// reaches nothing of the box. A connection is a process of its own.
enum FetchServing {
    /// Connections at a time: one looks, another installs.
    private static let most = 8

    /// - Parameter socket: in a folder of the service's own, where root alone connects.
    static func run(_ socket: String) -> Int32 {
        let listener = csystem_listen_unix(socket, 0)
        guard listener >= 0 else {
            say("\(SystemError("bind", socket))\n", to: 2)
            return 1
        }
        var children = 0
        while true {
            var polled = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
            _ = poll(&polled, 1, -1)
            let connection = accept(listener, nil, nil)
            while waitpid(-1, nil, children >= most ? 0 : WNOHANG) > 0 { children -= 1 }
            guard connection >= 0 else { continue }
            if csystem_peer(connection) == 0, start(connection) { children += 1 }
            close(connection)
        }
    }

    /// The connection is standard input.
    static func serve() -> Int32 {
        Fetcher.serve(0)
        return 0
    }

    private static func start(_ connection: Int32) -> Bool {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, connection, 0)
        let argv = [strdup("vcpe-updater"), strdup("fetch-for"), nil]
        defer { for pointer in argv { free(pointer) } }
        var pid: pid_t = 0
        return posix_spawn(&pid, "/proc/self/exe", &actions, nil, argv, environ) == 0
    }
}
