import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// What flows through a box while its engine falls, or while change after change goes through: each packet of a stream is
/// counted, beside iperf3 and a thousand connections.
@Suite(.serialized) struct LoadTorture {
    /// Everything that flows, in processes of its own.
    private final class Load {
        private let box: BoxInNetwork
        private let network: ProofNetwork
        private var processes: [RunningProcess] = []
        private var client: RunningProcess?
        private var server: RunningProcess?

        init(_ box: BoxInNetwork) throws {
            (self.box, network) = (box, try #require(box.network))
            let target = try network.side(.wan).host4.description
            _ = try start(.wan, "iperf3", ["--server", "--port", "5201"])
            server = try start(.wan, "python3", ["-c", Self.serverText])
            usleep(1_000_000)
            _ = try start(
                .lan, "iperf3", ["--client", target, "--port", "5201", "--time", "3600", "--bitrate", "200M"])
            client = try start(.lan, "python3", ["-c", Self.clientText, target, "\(box.folder)/stop"])
            let end = Clock.seconds + 30
            while Clock.seconds < end, said(.lan) != "ready" { usleep(100_000) }
            #expect(said(.lan) == "ready")
        }

        deinit { for process in processes { process.kill() } }

        private func start(_ place: Proof.Endpoint, _ program: String, _ arguments: [String]) throws -> RunningProcess {
            let process = try network.namespace(place).run {
                try Command(program, arguments).start(
                    output: File("\(box.folder)/\(program).\(place.rawValue)", O_WRONLY | O_CREAT))
            }
            processes.append(process)
            return process
        }

        private func said(_ place: Proof.Endpoint) -> String? {
            let path = "\(box.folder)/python3.\(place.rawValue)"
            return (try? FileSystem.read(path)).flatMap {
                String(decoding: $0, as: UTF8.self).split(separator: "\n").last.map(String.init)
            }
        }

        /// Ends the stream: packets that were sent, those that arrived, and connections that still answer.
        func end() throws -> (sent: Int, arrived: Int, connections: Int) {
            try FileSystem.replace("\(box.folder)/stop", with: "")
            let end = Clock.seconds + 60
            while Clock.seconds < end, client?.poll() == nil || server?.poll() == nil { usleep(50_000) }
            let sent = (said(.lan) ?? "").split(separator: " ").compactMap { Int($0) }
            let arrived = Int(said(.wan) ?? "")
            #expect(sent.count == 2 && arrived != nil, "\(said(.lan) ?? "") \(said(.wan) ?? "")")
            return (sent.first ?? 0, arrived ?? 0, sent.last ?? 0)
        }

        /// Echoes what a thousand connections say, and counts a stream's packets until it is still for three seconds.
        private static let serverText = """
            import select, socket
            stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            stream.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
            stream.bind(("0.0.0.0", 7000)); stream.setblocking(False)
            listener = socket.create_server(("0.0.0.0", 7001), backlog=1024); listener.setblocking(False)
            poll = select.poll(); ends = {}; seen = set()
            poll.register(stream, select.POLLIN); poll.register(listener, select.POLLIN)
            while True:
                ready = poll.poll(3000 if seen else 60000)
                if not ready: break
                for fd, _ in ready:
                    if fd == stream.fileno():
                        try:
                            while True: seen.add(stream.recv(64))
                        except BlockingIOError: pass
                    elif fd == listener.fileno():
                        end, _ = listener.accept(); ends[end.fileno()] = end; poll.register(end, select.POLLIN)
                    else:
                        data = ends[fd].recv(64)
                        if data: ends[fd].sendall(data)
                        else: poll.unregister(fd)
            print(len(seen), flush=True)
            """

        /// A thousand connections, then a thousand numbered packets a second until the file is there.
        private static let clientText = """
            import os, socket, sys, time
            target, stop = sys.argv[1:]
            ends = [socket.create_connection((target, 7001), 20) for _ in range(1000)]
            stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); stream.connect((target, 7000))
            print("ready", flush=True)
            sent, next = 0, time.monotonic()
            while not os.path.exists(stop):
                stream.send(str(sent).encode()); sent += 1
                next += 0.001
                time.sleep(max(0, next - time.monotonic()))
            for end in ends: end.sendall(b"still here")
            good = 0
            for end in ends:
                try: good += end.recv(64) == b"still here"
                except OSError: pass
            print(sent, good, flush=True)
            """
    }

    private func site(_ number: Int) -> String {
        BoxInNetwork.site.editing("to-port: 80}", with: "to-port: \(1000 + number % 50_000)}")
    }

    private func judge(_ load: Load, _ name: String, checked: Int, failures: Int) throws {
        let result = try load.end()
        print(
            "\(name): \(checked), \(result.sent) packets of a stream, \(result.arrived) arrived, \(result.connections) connections"
        )
        #expect(result.sent > 5000 && result.arrived == result.sent && result.connections == 1000, "\(result)")
        let isWhole = result.arrived == result.sent && result.connections == 1000
        try Torture.note(name, checked: checked, failed: failures + (isWhole ? 0 : 1))
    }

    @Test func aHundredFallsUnderLoadLoseNoPacket() throws {
        let box = try BoxInNetwork.ready()
        let load = try Load(box)
        var failures = 0
        for number in 0..<100 {
            box.killEngine()
            try box.start()
            // A commit right after works.
            if let error = try box.apply(site(number)) {
                failures += 1
                Issue.record("\(number): \(error)")
            }
        }
        try judge(load, "kill -9 of the engine under load", checked: 100, failures: failures)
    }

    @Test func aThousandCommitsUnderLoadLoseNoPacket() throws {
        let box = try BoxInNetwork.ready()
        let load = try Load(box)
        var failures = 0
        let begin = Clock.seconds
        for number in 0..<1000 {
            if let error = try box.apply(site(number)) {
                failures += 1
                Issue.record("\(number): \(error)")
            }
        }
        print("1,000 commits in \(Int(Clock.seconds - begin)) s")
        try judge(load, "commits under load", checked: 1000, failures: failures)
    }
}
