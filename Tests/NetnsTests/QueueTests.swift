import Documents
import Files
import Glibc
import ImageBuilder
import PluginKit
import TestSupport
import Testing

/// Commits wait for their turn, and the engine goes on meanwhile.
@Suite(.serialized) struct QueueTests {
    /// A plugin that plans for as many seconds as its part of the document says.
    private static let plugin = """
        #!/bin/sh
        input=$(cat)
        [ $1 = plan ] || exit 0
        sleep $(printf %s "$input" | sed -n 's/.*"wait":"\\{0,1\\}\\([0-9]*\\).*/\\1/p')
        facts=$(printf %s "$input" | sed 's/.*"facts":\\(.*\\),"published".*/\\1/' | tr -d '"\\\\')
        f=/run/vcpe/slow
        echo '{"content":"'"$facts"'","id":"'$f/asked'","kind":"file","mode":420,"owner":"root","path":"'$f/asked'"}'
        echo '{"id":"'$f'","kind":"directory","mode":493,"owner":"root","path":"'$f'"}'

        """

    private static func ready() throws -> BoxInNetwork {
        try BoxInNetwork.ready(
            plugins: ["slow": plugin], manifests: ["slow": ["facts": ["slow-states"], "reads": [], "publishes": []]])
    }

    private static func slow(_ seconds: Int, _ site: String = BoxInNetwork.site) -> String {
        site + "slow: {wait: \(seconds)}\n"
    }

    private static func site(port: Int) -> String {
        BoxInNetwork.site.editing("to-port: 80}", with: "to-port: \(port)}")
    }

    /// Meanwhile the engine answers, a rollback comes in time, and the commit is planned anew
    /// beside what the rollback restored.
    @Test func aSlowPluginDelaysOnlyItsCommit() throws {
        let box = try Self.ready()
        let before = try box.decided()
        let pending = BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 81}")
        #expect(try box.apply(pending, confirm: 3) == nil)
        let begin = Clock.seconds
        let slow = try box.say("apply", ["site": .text(Self.slow(5)), "name": "site.yaml"])
        var (longest, rolledBackAfter): (Double, Double?) = (0, nil)
        while Clock.seconds - begin < 4.5 {
            let asked = Clock.seconds
            let status = try box.ask("status")
            longest = max(longest, Clock.seconds - asked)
            if status["rollback-in"] == nil, rolledBackAfter == nil { rolledBackAfter = Clock.seconds - begin }
            usleep(50_000)
        }
        #expect(longest < 2 && rolledBackAfter ?? 9 < 4.5, "\(longest), \(rolledBackAfter ?? -1)\n\(box.log)")
        #expect(try box.decided() == before)
        let answer = try box.answer(from: slow)
        #expect(answer["commit"]?.integer == 2 && Clock.seconds - begin >= 8, "\(answer)")
        #expect(try box.onBox(["cat", "/run/vcpe/slow/asked"]).text == "{}")
    }

    /// An operator's commands count items of the document that the plugin knew: they must not hit
    /// others when commits come between.
    @Test func commandsDoNotEditItemsThatHaveMoved() throws {
        let box = try Self.ready()
        for host in [1, 2, 3] { #expect(try box.vcpectl("firewall", "block", "198.51.100.\(host)").status == 0) }
        let connections =
            try [box.say("apply", ["site": .text(Self.slow(2, shown(box))), "name": "site.yaml"])]
            + [1, 3].map { host in
                try box.say(
                    "run",
                    [
                        "plugin": "firewall", "command": "unblock",
                        "arguments": .texts(["198.51.100.\(host)"]),
                    ])
            }
        for connection in connections {
            let answer = try box.answer(from: connection)
            #expect(answer["error"] == nil, "\(answer)")
        }
        let left = try shown(box)
        #expect(left.contains("198.51.100.2"))
        #expect(!left.contains("198.51.100.1") && !left.contains("198.51.100.3"), "\(left)")
    }

    private func shown(_ box: BoxInNetwork) throws -> String { try box.ask("show")["site"]?.text ?? "" }

    /// Callers whose commits are planned for a second and refused, all the time.
    @Test func commitsDoNotKeepFactsFromBeingPlanned() throws {
        let box = try Self.ready()
        #expect(try box.apply(BoxInNetwork.site + "slow: {}\n") == nil)
        let refused = Self.slow(1, BoxInNetwork.site.editing("port: order 1", with: "port: order 7"))
        var waiting: [File] = []
        func keepBusy() throws {
            while waiting.count < 3 {
                waiting.append(try box.say("apply", ["site": .text(refused), "name": "site.yaml"]))
            }
        }
        try keepBusy()
        try box.report("slow-states", "line", "words:=[1,2]")
        let isPlanned = try Wait.until(15) {
            let answer = try box.answer(from: waiting.removeFirst())
            #expect(answer["error"]?.text?.contains("no port of the box is that") == true, "\(answer)")
            try keepBusy()
            return try box.onBox(["cat", "/run/vcpe/slow/asked"]).text.contains("line:{words:[1,2]}")
        }
        #expect(isPlanned, "\(box.log)")
        for connection in waiting { _ = try box.answer(from: connection) }
    }

    @Test func anEditDuringTheCommitOfACandidateIsKept() throws {
        let box = try Self.ready()
        #expect(try box.ask("load", ["site": .text(Self.slow(2))])["error"] == nil)
        let commit = try box.say("commit")
        usleep(500_000)
        let edit: JSON = ["edit": "set", "path": "network.interfaces[wan].mtu", "value": "1400"]
        #expect(try box.ask("edit", ["edits": .list([edit])])["error"] == nil)
        #expect(try box.answer(from: commit)["commit"]?.integer == 1)
        #expect(try box.ask("candidate")["site"]?.text?.contains("mtu: 1400") == true)
        let changes = try box.ask("diff")["lines"]?.list ?? []
        #expect(changes.contains { $0.text?.hasPrefix("+") == true && $0.text?.contains("mtu: 1400") == true })
        #expect(try box.ask("commit")["commit"]?.integer == 2)
    }

    /// The first document of a box needs no signature, unless an operator's comes first.
    @Test func aDocumentFromOutsideIsCheckedAtItsTurn() throws {
        let box = try Self.ready()
        let first = try box.say("apply", ["site": .text(Self.slow(3)), "name": "site.yaml"])
        try FileSystem.replace("\(box.folder)/firmware-site", with: Self.site(port: 81))
        #expect(try box.answer(from: first)["commit"]?.integer == 1)
        #expect(
            Wait.until(10) { box.log.contains("is not taken: the box has a document already, and") }, "\(box.log)")
        #expect(try box.ask("status")["commit"]?.integer == 1)
    }

    /// Callers that are gone leave nothing that waits.
    @Test func requestsOfCallersThatAreGoneAreDropped() throws {
        let box = try Self.ready()
        let slow = try box.say("apply", ["site": .text(Self.slow(3)), "name": "site.yaml"])
        for port in 100..<120 {
            // The descriptor is closed with the last reference.
            _ = try box.say("apply", ["site": .text(Self.site(port: port)), "name": "site.yaml"])
        }
        #expect(try box.answer(from: slow)["commit"]?.integer == 1)
        #expect(try box.apply(Self.site(port: 200)) == nil)
        #expect(try box.ask("status")["commit"]?.integer == 2, "\(box.log)")
    }
}
