import CSystem
import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// Facts that services report, and the plugins that read them.
@Suite(.serialized) struct FactTests {
    /// Plans a file whose text says how often the plugin was asked, as far as it can know: by chance.
    private static func plugin(_ name: String) -> String {
        """
        #!/bin/sh
        input=$(cat)
        [ $1 = plan ] || exit 0
        facts=$(printf %s "$input" | sed 's/.*"facts":\\(.*\\),"published".*/\\1/' | tr -d '"\\\\')
        number=$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')
        f=/run/vcpe/\(name)
        echo '{"content":"'$number $facts'","id":"'$f/asked'","kind":"file","mode":420,"owner":"root","path":"'$f/asked'"}'
        echo '{"id":"'$f'","kind":"directory","mode":493,"owner":"root","path":"'$f'"}'

        """
    }

    private func asked(_ box: BoxInNetwork, _ name: String) throws -> String {
        let words = try box.onBox(["cat", "/run/vcpe/\(name)/asked"]).text
        return String(words.prefix { $0 != " " })
    }

    @Test func aFactPlansThePluginsThatReadItAndNoOthers() throws {
        let box = try BoxInNetwork.ready(
            plugins: ["reader": Self.plugin("reader"), "other": Self.plugin("other")],
            manifests: [
                "reader": ["facts": ["leases", "reader-states"], "reads": [], "publishes": []],
                "other": ["facts": ["ports"], "reads": [], "publishes": []],
            ])
        let error = try box.apply(BoxInNetwork.site + "reader: {}\nother: {}\n")
        #expect(error == nil, "\(error ?? "")")
        let before = try (reader: asked(box, "reader"), other: asked(box, "other"))
        #expect(!before.reader.isEmpty && !before.other.isEmpty)

        try box.report("reader-states", "a b", "words:=[1,2]")
        #expect(try Wait.until(10) { try asked(box, "reader") != before.reader }, "\(box.log)")
        let after = try (reader: asked(box, "reader"), other: asked(box, "other"))
        #expect(after.other == before.other, "\(box.log)")
        let shown = try box.onBox(["cat", "/run/vcpe/reader/asked"]).text
        #expect(shown.contains("reader-states:{a b:{words:[1,2]}}"), "\(shown)")

        // The same once more, with another end, changes nothing for anybody.
        try box.report("--seconds", "600", "reader-states", "a b", "words:=[1,2]")
        usleep(500_000)
        #expect(try asked(box, "reader") == after.reader)
        // Nor does a collection that nobody here reads.
        try box.report("routers", "wan fe80::1", "interface=wan", "address=fe80::1", "default:=true")
        usleep(500_000)
        #expect(try asked(box, "reader") == after.reader && asked(box, "other") == after.other)

        try box.report("--remove", "reader-states", "a b")
        #expect(try Wait.until(10) { try asked(box, "reader") != after.reader }, "\(box.log)")
    }

    @Test func aReportThatIsWrongIsRefusedWithItsReason() throws {
        let box = try BoxInNetwork.ready()
        func refused(_ words: String...) throws -> (status: Int32, text: String) {
            let result = try box.onBox(["\(box.folder)/vcpe-report"] + words)
            return (result.status, result.errorText)
        }
        let shape = try refused("leases", "wan", "address=203.0.113.7")
        #expect(shape.status == 1 && shape.text.contains("found \"203.0.113.7\""), "\(shape)")
        #expect(try refused("leases", "wan", "address").status == 64)
        #expect(try refused("leases").status == 64)
        let unknown = try refused("leases", "wan", "address=203.0.113.7/24", "colour=red")
        #expect(unknown.status == 1 && unknown.text.contains("colour"), "\(unknown)")
        let long = try refused("mine", "x", "text=" + String(repeating: "x", count: 20_000))
        #expect(long.status == 1 && long.text.contains("16384"), "\(long.text.prefix(200))")
        // Somebody who is no service, and not root.
        let stranger = try box.onBox([
            "setpriv", "--reuid", "20009", "--regid", "20009", "--clear-groups", "\(box.folder)/vcpe-report", "leases",
            "wan", "address=203.0.113.7/24",
        ])
        #expect(stranger.status == 1 && stranger.errorText.contains("no service"), "\(stranger.errorText)")
        #expect(try box.ask("facts")["facts"]?["leases"] == nil)
    }

    /// The state of a probe changes what is planned.
    @Test func aProbesStateIsAFact() throws {
        let box = try BoxInNetwork.ready(
            site: BoxInNetwork.site.editing(
                "firewall:\n",
                with: "  probes:\n    - {name: nobody, ping: 203.0.113.99, interval: 1, timeout: 1}\nfirewall:\n"),
            plugins: ["reader": Self.plugin("reader")],
            manifests: ["reader": ["facts": ["probes"], "reads": [], "publishes": []]])
        let site = String(decoding: try FileSystem.read("\(box.folder)/site.yaml"), as: UTF8.self)
        let error = try box.apply(site + "reader: {}\n")
        #expect(error == nil, "\(error ?? "")")
        let shows = try Wait.until(20) {
            try box.onBox(["cat", "/run/vcpe/reader/asked"]).text.contains("{network.nobody:{passes:false}}")
        }
        #expect(shows, "\(box.log)")
    }

    /// Two hundred connections that say nothing, and twenty plans at once, of a user who may only read.
    @Test func aReaderDoesNotDelayACommit() throws {
        let box = try BoxInNetwork.ready()
        box.killEngine()
        try box.start(users: ["rita:x:20001:990::/:/bin/false"])
        func commit(_ port: Int) throws -> Double {
            let site = BoxInNetwork.site.editing("to-port: 80}", with: "to-port: \(port)}")
            let begin = Clock.seconds
            #expect(try box.apply(site) == nil)
            return Clock.seconds - begin
        }
        let alone = try (1000..<1005).map(commit).min() ?? 0
        let script = """
            import json, os, socket, sys, threading
            site = open(sys.argv[2]).read()
            answers = open(sys.argv[3], "ab", buffering=0)
            os.setgroups([]); os.setgid(990); os.setuid(20001)
            def connect():
                s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); return s
            silent = [connect() for i in range(200)]
            def plan():
                while True:
                    try:
                        s = connect(); s.sendall((json.dumps({"do": "plan", "site": site}) + "\\n").encode())
                        answer = b""
                        while not answer.endswith(b"\\n"):
                            part = s.recv(65536)
                            if not part: break
                            answer += part
                        if b'"added"' in answer: answers.write(b".")
                    except OSError: pass
            for i in range(20): threading.Thread(target=plan, daemon=True).start()
            print("ready", flush=True)
            threading.Event().wait()
            """
        let output = try File("\(box.folder)/reader", O_WRONLY | O_CREAT)
        let reader = try box.box.run {
            try Command(
                "python3",
                ["-c", script, "\(box.folder)/run/engine.sock", "\(box.folder)/site.yaml", "\(box.folder)/plans"]
            ).start(output: output)
        }
        defer { reader.kill() }
        #expect(try Wait.until(20) { try FileSystem.read("\(box.folder)/reader") == Array("ready\n".utf8) })
        sleep(1)
        let times = try (1010..<1020).map(commit)
        #expect(try Wait.until(20) { try FileSystem.read("\(box.folder)/plans").count >= 5 }, "\(box.log)")
        // The least, since whatever else this machine does counts here as well; one that waited for a silent
        // connection or for another's plan would never be fast.
        let least = times.min() ?? 9
        #expect(least - alone < 0.1, "alone \(alone), with the reader \(times)")
    }

    /// A plugin whose plan depends on the time is asked again at the time that it names, in whatever form.
    @Test func theTimeThatAPluginNamesEndsItsAnswer() throws {
        let plugin = """
            #!/bin/sh
            input=$(cat)
            [ $1 = plan ] || exit 0
            now=$(printf %s "$input" | sed 's/.*"now":\\([0-9]*\\).*/\\1/')
            echo '{ "replan-at" : '$((now / 2 * 2 + 2))' }'
            echo '{"content":"'$((now / 2))'","id":"/run/vcpe/clock/asked","kind":"file","mode":420,"owner":"root","path":"/run/vcpe/clock/asked"}'
            echo '{"id":"/run/vcpe/clock","kind":"directory","mode":493,"owner":"root","path":"/run/vcpe/clock"}'

            """
        let box = try BoxInNetwork.ready(
            plugins: ["clock": plugin], manifests: ["clock": ["reads": [], "publishes": []]])
        let error = try box.apply(BoxInNetwork.site + "clock: {}\n")
        #expect(error == nil, "\(error ?? "")")
        var seen: Set<String> = []
        let isAsked = try Wait.until(15) {
            seen.insert(try box.onBox(["cat", "/run/vcpe/clock/asked"]).text)
            return seen.count >= 3
        }
        #expect(isAsked, "\(seen) \(box.log)")
    }

    @Test func eventsAreFollowedFromACursor() throws {
        let box = try BoxInNetwork.ready()
        func follow(_ more: [String: JSON]) throws -> EventReader { EventReader(try box.say("subscribe", more)) }
        let first = try follow([:])
        var seen = try first.until("follows")
        #expect(seen.contains { $0["event"] == "status" && $0["state"]?["resources"]?.integer ?? 0 > 0 })
        #expect(try box.apply(BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 81}")) == nil)
        seen = try first.until("commit")
        let commit = try #require(seen.last)
        #expect(commit["number"] == 1 && commit["user"] == "root", "\(commit)")
        let cursor = try #require(commit["cursor"]?.text)
        #expect(try box.apply(BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 82}")) == nil)
        // Who was away gets what he missed, and nothing of before.
        let again = try follow(["cursor": .text(cursor)])
        seen = try again.until("commit")
        #expect(seen.last?["number"] == 2 && !seen.contains { $0["number"] == 1 }, "\(seen)")
        #expect(seen.allSatisfy { $0["time"]?.integer ?? 0 > 0 && $0["cursor"] != nil }, "\(seen)")
        _ = try again.until("follows")
        // Another engine's cursor says nothing: the state comes anew.
        box.killEngine()
        try box.start()
        seen = try follow(["cursor": .text(cursor)]).until("follows")
        #expect(seen.first?["event"] == "lost" && seen.contains { $0["event"] == "status" }, "\(seen)")
    }
}

/// Reads lines of events.
private final class EventReader {
    private let file: File
    private var bytes: [UInt8] = []

    init(_ file: File) { self.file = file }

    /// The events up to the next one of a kind.
    func until(_ event: JSON) throws -> [JSON] {
        var seen: [JSON] = []
        while true {
            while let end = bytes.firstIndex(of: 10) {
                seen.append(try JSON.parse(bytes[..<end]))
                bytes = Array(bytes[(end + 1)...])
                if seen.last?["event"] == event { return seen }
            }
            var polled = pollfd(fd: file.descriptor, events: Int16(POLLIN), revents: 0)
            try #require(poll(&polled, 1, 10_000) == 1, "no more events after \(seen)")
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            let count = recv(file.descriptor, &buffer, buffer.count, 0)
            try #require(count > 0)
            bytes += buffer[..<count]
        }
    }
}
