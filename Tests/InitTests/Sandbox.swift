import CSystem
import Documents
import Files
import Glibc
import Processes
import Testing

/// PID 1 as PID 1: in namespaces of its own, with a root that is the host's /usr under a layer, and
/// a cgroup of its own.
final class Sandbox {
    static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    private let process: RunningProcess
    private let folder: String
    /// PID 1, as the host counts it.
    let pid: pid_t

    /// - Parameters:
    ///   - units: of the image, by name.
    ///   - scripts: programs in /usr/lib/test, by name.
    ///   - files: of /usr/lib/vcpe, by path; with any, our engine is there, too.
    ///   - commandLine: the kernel's, instead of the host's.
    ///   - setup: shell commands in the root, before PID 1; without single quotes.
    init(
        units: [String: String] = [:], scripts: [String: String] = [:], files: [String: String] = [:],
        commandLine: String? = nil, setup: String = ""
    ) throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-init")
        for (name, text) in units {
            try FileSystem.makeDirectory("\(folder)/units")
            try FileSystem.replace("\(folder)/units/\(name)", with: text)
        }
        for (name, text) in scripts {
            try FileSystem.makeDirectory("\(folder)/scripts")
            try FileSystem.replace("\(folder)/scripts/\(name)", with: text, mode: 0o755)
        }
        // The plugins of tests are the image's own.
        let plugins = Set(files.keys.filter { $0.hasPrefix("plugins/") }.map { String($0.split(separator: "/")[1]) })
        let own = plugins.isEmpty ? [:] : ["plugins/own.json": JSON.texts(plugins.sorted()).pretty]
        for (path, text) in own.merging(files, uniquingKeysWith: { $1 }) {
            if let parent = FileSystem.parent(of: "\(folder)/files/\(path)") { try FileSystem.makeDirectory(parent) }
            try FileSystem.replace("\(folder)/files/\(path)", with: text, mode: 0o755)
        }
        if let commandLine { try FileSystem.replace("\(folder)/cmdline", with: commandLine + "\n") }
        let script = """
            set -e
            cd \(folder)
            mkdir -p root cgroup
            mount -t cgroup2 none cgroup
            mkdir -p cgroup/vcpe-test-$$
            echo $$ >cgroup/vcpe-test-$$/cgroup.procs
            umount cgroup
            exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child bash -ec '
                mount -t tmpfs tmpfs root
                cd root
                /usr/bin/python3 ../relay.py ../relay &
                mkdir -p usr proc sys dev run/vcpe tmp var data etc root mnt .upper .work
                mount -t overlay none -o lowerdir=/usr,upperdir=.upper,workdir=.work usr
                for name in bin sbin lib lib64; do ln -s usr/$name $name; done
                cp /etc/passwd /etc/group etc/
                mount -t proc proc proc
                mount --bind proc/sys proc/sys
                mount -o remount,bind,ro proc/sys
                mount -t sysfs sysfs sys
                mount -t tmpfs tmpfs dev
                mknod -m 666 dev/null c 1 3; mknod -m 666 dev/zero c 1 5; mknod -m 666 dev/urandom c 1 9
                mknod -m 666 dev/full c 1 7; mknod -m 666 dev/random c 1 8
                mkdir -p usr/lib/vcpe/units usr/lib/test
                cp \(Self.repository)/.build/box/vcpe-init usr/lib/vcpe/
                [ ! -d ../units ] || cp ../units/* usr/lib/vcpe/units/
                [ ! -d ../scripts ] || cp ../scripts/* usr/lib/test/
                [ ! -d ../files ] || { cp -r ../files/* usr/lib/vcpe/; cp \(Self.repository)/.build/box/vcpe-box usr/lib/vcpe/vcpe-engine; }
                [ ! -e ../cmdline ] || mount --bind ../cmdline proc/cmdline
                \(setup)
                exec chroot . /usr/lib/vcpe/vcpe-init'
            """
        try FileSystem.replace("\(folder)/start", with: script)
        try FileSystem.replace("\(folder)/relay.py", with: Self.relay)
        process = try Command("bash", ["\(folder)/start"]).start(
            output: File("\(folder)/console", O_WRONLY | O_CREAT | O_APPEND))
        // PID 1 is the child of unshare, which took the shell's place.
        let children = "/proc/\(process.pid)/task/\(process.pid)/children"
        let end = Sandbox.now + 20
        var found: pid_t = 0
        while Sandbox.now < end {
            let text = (try? File(children).read(64, at: 0)).map { String(decoding: $0, as: UTF8.self) } ?? ""
            found = pid_t(text.prefix { $0.isNumber }) ?? 0
            let (listens, relays) = ("/proc/\(found)/root/run/vcpe/init.sock", "\(folder)/relay")
            if found > 0, FileSystem.exists(listens), FileSystem.exists(relays) { break }
            usleep(20_000)
        }
        pid = found
    }

    deinit {
        process.kill()
        while process.poll() == nil { usleep(10_000) }
        usleep(100_000)
        try? FileSystem.remove(folder)
        _ = try? Command(
            "bash",
            [
                "-c",
                "mkdir -p /tmp/vcpe-cg && mount -t cgroup2 none /tmp/vcpe-cg && rmdir /tmp/vcpe-cg/vcpe-test-*/services/* /tmp/vcpe-cg/vcpe-test-*/services /tmp/vcpe-cg/vcpe-test-* 2>/dev/null; umount /tmp/vcpe-cg",
            ]
        ).run()
    }

    static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    var console: String {
        (try? FileSystem.read("\(folder)/console")).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    /// A path within the sandbox, as the host reaches it.
    func path(_ path: String) -> String { "/proc/\(pid)/root\(path)" }

    func read(_ path: String) -> String {
        (try? FileSystem.read(self.path(path))).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    /// PID 1 and the engine answer processes of their own namespace only: this one, outside the
    /// services, forwards messages to their sockets.
    private static let relay = """
        import os, signal, socket, sys, threading
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(sys.argv[1] + ".new"); listener.listen(64)
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        def pump(source, target):
            try:
                while data := source.recv(1 << 16): target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError: pass
        def serve(client):
            try:
                kind, path = client.recv(4096).decode().split(" ", 1)
                peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if kind == "p" else socket.SOCK_STREAM)
                peer.connect("." + path)
                client.sendall(b"+")
                back = threading.Thread(target=pump, args=(peer, client), daemon=True); back.start()
                pump(client, peer); back.join()
                peer.close()
            except OSError: pass
            client.close()
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        """

    /// Connects to a socket in the sandbox, as a process of it that is no service; -1 when it
    /// can't.
    func connect(_ path: String, inPackets: Bool) -> Int32 {
        let connection = csystem_connect_unix("\(folder)/relay", 1)
        guard connection >= 0 else { return -1 }
        let hello = Array("\(inPackets ? "p" : "s") \(path)".utf8)
        var answer: UInt8 = 0
        var polled = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
        guard send(connection, hello, hello.count, Int32(MSG_NOSIGNAL)) == hello.count, poll(&polled, 1, 2000) > 0,
            recv(connection, &answer, 1, 0) == 1
        else {
            close(connection)
            return -1
        }
        return connection
    }

    /// Asks PID 1; nil when it doesn't answer within two seconds.
    func ask(_ request: String) -> String? { ask(Array(request.utf8)) }

    func ask(_ request: [UInt8]) -> String? {
        ask(request, by: connect("/run/vcpe/init.sock", inPackets: true))
    }

    /// Asks PID 1 by a connection, and closes it; nil when it doesn't answer within two seconds.
    func ask(_ request: String, by connection: Int32) -> String? { ask(Array(request.utf8), by: connection) }

    private func ask(_ request: [UInt8], by connection: Int32) -> String? {
        guard connection >= 0 else { return nil }
        defer { close(connection) }
        guard send(connection, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else { return nil }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            var polled = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
            guard poll(&polled, 1, 2000) > 0 else { return nil }
            let count = recv(connection, &buffer, buffer.count, 0)
            if count <= 0 { return String(decoding: answer, as: UTF8.self) }
            answer += buffer[..<count]
        }
    }

    /// What a process of PID 1's is called outside its namespace; nil for one that isn't there.
    func outside(_ pid: String?) -> pid_t? {
        let children = (try? File("/proc/\(self.pid)/task/\(self.pid)/children").read(4096, at: 0)) ?? []
        return String(decoding: children, as: UTF8.self).split(separator: " ").compactMap { pid_t($0) }.first { child in
            let status = (try? File("/proc/\(child)/status").read(4096, at: 0)) ?? []
            let line = String(decoding: status, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("NSpid:") }
            return line?.split(separator: "\t").last.map(String.init) == pid
        }
    }

    /// The columns of a service's row: name, state, pid, restarts, memory, status, reload.
    func service(_ name: String) -> [String]? {
        for line in (ask("status") ?? "").split(separator: "\n") {
            let columns = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            if columns.first == name { return columns }
        }
        return nil
    }

    /// Waits until a service is in a state.
    func wait(_ name: String, _ state: String, seconds: Double = 10) -> Bool {
        wait(seconds) { self.service(name)?[1] == state }
    }

    func wait(_ seconds: Double, until isDone: () -> Bool) -> Bool {
        let end = Self.now + seconds
        while Self.now < end {
            if isDone() { return true }
            usleep(30_000)
        }
        return isDone()
    }

    /// Puts unit files where the engine puts them, and has PID 1 read them.
    func load(_ units: [String: [UInt8]]) throws -> String? {
        let folder = path("/run/vcpe/units")
        try FileSystem.remove(folder)
        try FileSystem.makeDirectory(folder)
        for (name, bytes) in units { try FileSystem.replace("\(folder)/\(name)", with: bytes) }
        return ask("reload")
    }

    /// Processes of the sandbox that nobody has reaped.
    var zombies: Int {
        let inside = (try? FileSystem.list(path("/proc")).filter { $0.allSatisfy(\.isNumber) }) ?? []
        return inside.filter { process in
            let stat =
                (try? File(path("/proc/\(process)/stat")).read(512, at: 0)).map { String(decoding: $0, as: UTF8.self) }
                ?? ""
            return stat.split(separator: ")").last?.split(separator: " ").first == "Z"
        }.count
    }

    /// kB that PID 1 has in memory.
    var memory: Int {
        let status =
            (try? File("/proc/\(pid)/status").read(4096, at: 0)).map { String(decoding: $0, as: UTF8.self) } ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
        return Int(line.filter(\.isNumber)) ?? 0
    }

    var openFiles: Int { (try? FileSystem.list("/proc/\(pid)/fd").count) ?? 0 }

    /// True when PID 1 answers, with its memory within bounds.
    var isWell: Bool { ask("status")?.hasSuffix("ok\n") == true && memory < 24_000 }
}
