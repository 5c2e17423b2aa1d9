import Documents
import Processes
import TestSupport
import Testing

/// The box's own updater as a service of this machine: its answers to callers.
@Suite(.serialized) struct ServingTests {
    private static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    /// Many callers hang up before the answer, and one never finishes its question.
    @Test func slowAndGoneCallersStopNoOther() throws {
        let asking = """
            import socket, threading, time
            def connect():
                for _ in range(250):
                    try:
                        s = socket.socket(socket.AF_UNIX); s.connect("/run/vcpe/upgrade/socket"); return s
                    except OSError: time.sleep(0.02)
            question = b'{"words":["nonsense"]}\\n'
            for _ in range(50):
                s = connect(); s.sendall(question); s.close()
            def dawdle():
                s = connect()
                try:
                    for _ in range(40): s.sendall(b" "); time.sleep(0.2)
                except OSError: pass
            threading.Thread(target=dawdle, daemon=True).start()
            time.sleep(0.3)
            begin = time.time()
            s = connect(); s.settimeout(8); s.sendall(question)
            print(s.recv(1000).decode().strip(), "within four seconds" if time.time() - begin < 4 else "late")
            """
        let script = """
            mount -t tmpfs tmpfs /run && mkdir -p /run/vcpe/upgrade
            echo '{"repository":"http://192.0.2.1","groups":{}}' >/run/vcpe/upgrade/settings.json
            "$0" serve & server=$!
            python3 -c "$1"
            kill $server && echo the server is there still
            """
        let result = try Command(
            "unshare", ["--mount", "--net", "sh", "-c", script, "\(Self.repository)/.build/box/vcpe-updater", asking]
        ).run()
        #expect(
            result.text.contains("there is no upgrade nonsense") && result.text.contains("within four seconds")
                && result.text.contains("the server is there still"), "\(result.text)\(result.errorText)")
    }

    /// The engine's audit log gets what is refused, and what changes the box, with the user who
    /// asked.
    @Test func refusalsAndChangesAreNoted() throws {
        let asking = """
            import json, socket, time
            engine = socket.socket(socket.AF_UNIX); engine.bind("/run/vcpe/engine.sock"); engine.listen(8)
            engine.settimeout(8)
            def note():
                connection = engine.accept()[0]
                print(connection.makefile("rb").readline().decode().strip(), flush=True)
                connection.sendall(b"{}\\n"); connection.close()
            def ask(words):
                for _ in range(250):
                    try:
                        s = socket.socket(socket.AF_UNIX); s.connect("/run/vcpe/upgrade/socket"); break
                    except OSError: time.sleep(0.02)
                s.sendall(json.dumps({"words": words}).encode() + b"\\n")
                return s
            waiting = ask(["nonsense", "x"]); note()
            waiting = ask(["status"]); waiting.makefile("rb").readline()
            waiting = ask(["cancel"]); note(); waiting.makefile("rb").readline()
            """
        let script = """
            mount -t tmpfs tmpfs /run && mkdir -p /run/vcpe/upgrade
            echo '{"repository":"http://192.0.2.1","groups":{}}' >/run/vcpe/upgrade/settings.json
            "$0" serve & server=$!
            python3 -c "$1"
            kill $server
            """
        let result = try Command(
            "unshare", ["--mount", "--net", "sh", "-c", script, "\(Self.repository)/.build/box/vcpe-updater", asking]
        ).run()
        let notes = try result.text.split(separator: "\n").map { try JSON.parse($0.utf8) }
        #expect(notes.map { $0["what"] } == ["upgrade nonsense", "upgrade cancel"], "\(result.errorText)")
        #expect(notes.map { $0["outcome"] } == ["refused", "failed"])
        #expect(notes.allSatisfy { $0["do"] == "note" && $0["uid"] == 0 && ($0["process"]?.integer ?? 0) > 1 })
        #expect(notes.first?["details"] == "x" && notes.allSatisfy { $0["reason"]?.text?.isEmpty == false })
    }
}
