import Documents
import Files
import Glibc
import PluginKit
import TestSupport
import Testing

/// What services make of a commit: the engine under PID 1.
@Suite(.serialized) struct CommittedServiceTests {
    /// Plans what its part of the document has, as it is.
    private static let plugin = """
        #!/bin/sh
        [ "$1" = plan ] || exec cat >/dev/null
        exec jq -c '.configuration | to_entries[] | .value + {at: .key}'

        """
    private static let manifest: JSON = [
        "name": "daemons", "version": "1", "summary": "of a test", "contract": 1, "key": "daemons", "yang": "none",
        "permissions": Permissions.wide("daemons").json,
        "features": [], "resources": ["service", "file", "link"], "allocates": ["namespaces": ["absent"]],
    ]

    /// A service, by its script; each on a line of its own.
    private static func service(_ name: String, _ script: String, _ more: String = "") -> String {
        "  \(name): {kind: service, id: daemons-\(name), name: daemons-\(name), "
            + "command: [/bin/sh, -c, '\(script)']\(more.isEmpty ? "" : ", ")\(more)}\n"
    }

    /// What a service sees of the box's, and may write to.
    private static let folder = "/run/vcpe/daemons"
    private static let own = "directories: [\(folder)]"

    private static let steady = service("one", "exec sleep 1000")

    private static func box(_ services: String = steady) throws -> Sandbox {
        try Sandbox(
            units: ["engine": "command /usr/lib/vcpe/vcpe-engine\nready notify\nessential\naccess init\n"],
            files: [
                "plugins/daemons/daemons": plugin, "plugins/daemons/manifest.json": manifest.pretty,
                "site.yaml": "daemons:\n" + services,
            ])
    }

    private func apply(_ services: String, to box: Sandbox, confirm: Int? = nil) throws -> JSON {
        var request: [String: JSON] = [
            "do": "apply", "name": "site.yaml", "site": .text("daemons:\n" + services),
        ]
        request["confirm"] = confirm.map { .integer($0) }
        return try box.askEngine(.object(request))
    }

    private func status(_ box: Sandbox) throws -> JSON { try box.askEngine(["do": "status"]) }

    /// Why the last commit was rolled back.
    private func rollbackReason(_ box: Sandbox, within seconds: Double = 10) throws -> String? {
        _ = try Wait.until(seconds) { try status(box)["rolled-back"] != nil }
        return try status(box)["rolled-back"]?.text
    }

    /// What the process of a service is.
    private func command(_ box: Sandbox, _ name: String) -> [String] {
        guard let pid = box.outside(box.service(name)?[2]),
            let bytes = try? File("/proc/\(pid)/cmdline").read(4096, at: 0)
        else { return [] }
        return bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Whether the service of the document before runs again; it becomes another program a moment after its start.
    private func isSteady(_ box: Sandbox) -> Bool {
        box.wait("daemons-one", "running") && box.wait(5) { command(box, "daemons-one") == ["sleep", "1000"] }
    }

    @Test func aServiceThatExitsAtOnceRollsTheCommitBack() throws {
        let box = try Self.box()
        #expect(box.wait("daemons-one", "running"), "\(box.console)")
        let broken = Self.service(
            "one", #"for n in 1 2 3 4 5 6; do echo line $n; done; printf "\033[31mred\n"; exit 3"#)
        let answer = try apply("  # A line more.\n" + broken, to: box)
        #expect(answer["error"] == nil && answer["probation"]?.list == ["service daemons-one"], "\(answer.line)")
        let reason = try #require(try rollbackReason(box), "\(box.console)")
        let lines = reason.split(separator: "\n").map { $0.drop { $0 == " " } }
        #expect(lines.dropFirst() == ["line 3", "line 4", "line 5", "line 6", "\\x1b[31mred"], "\(reason)")
        for part in [
            "commit 1 was rolled back", "daemons-one", "plugin daemons", "daemons.one", "site.yaml:3:", "ended with 3",
        ] {
            #expect(lines.first?.contains(part) == true, "\(part): \(reason)")
        }
        #expect(try status(box)["commit"] == nil && status(box)["probation"] == nil)
        #expect(isSteady(box))
        #expect(box.service("daemons-one")?[3] == "0", "\(box.ask("status") ?? "")")
    }

    @Test func aServiceThatASignalEndsNamesIt() throws {
        let box = try Self.box()
        #expect(box.wait("daemons-one", "running"), "\(box.console)")
        _ = try apply(Self.steady + Self.service("two", "sleep 0.5; kill -SEGV $$"), to: box)
        let reason = try #require(try rollbackReason(box), "\(box.console)")
        #expect(reason.contains("daemons-two") && reason.contains("signal 11"), "\(reason)")
        #expect(box.wait(5) { box.service("daemons-two") == nil } && box.service("daemons-one")?[1] == "running")
    }

    /// A commit waits for a slow service no longer than needed, and for the others not at all.
    @Test func aSlowServiceMakesTheCommitWaitUntilItIsReady() throws {
        let box = try Self.box()
        #expect(box.wait("daemons-one", "running"), "\(box.console)")
        let begin = Sandbox.now
        let slow = Self.service(
            "two", "sleep 4; : >\(Self.folder)/ready; exec sleep 1000", "ready: file \(Self.folder)/ready, \(Self.own)")
        _ = try apply(Self.steady + slow, to: box)
        #expect(Sandbox.now - begin < 2)
        #expect(try Wait.until(20) { try status(box)["probation"] == nil }, "\(box.console)")
        #expect(Sandbox.now - begin >= 4 && box.service("daemons-two")?[1] == "running")
        #expect(try status(box)["commit"]?.integer == 1 && status(box)["rolled-back"] == nil)
        // One that is ready at once has nothing to wait for, although it would exit in the look that others get.
        let quick = Self.service(
            "one", ": >\(Self.folder)/one; sleep 1; exit 1", "ready: file \(Self.folder)/one, \(Self.own)")
        _ = try apply(quick, to: box)
        #expect(try Wait.until(1) { try status(box)["probation"] == nil }, "\(box.console)")
        #expect(try status(box)["commit"]?.integer == 2 && status(box)["rolled-back"] == nil)
    }

    @Test func aServiceThatIsNeverReadyRollsTheCommitBack() throws {
        let box = try Self.box()
        #expect(box.wait("daemons-one", "running"), "\(box.console)")
        let late = Self.service(
            "one", "echo waiting; exec sleep 1000", "ready: file \(Self.folder)/never, ready-timeout: 2")
        _ = try apply(late, to: box)
        let reason = try #require(try rollbackReason(box), "\(box.console)")
        #expect(reason.contains("daemons-one") && reason.contains("never ready") && reason.hasSuffix("\n  waiting"))
        #expect(isSteady(box))
    }

    /// What failed before is no commit's fault, and one exit is none either.
    @Test func aServiceThatFailedBeforeBlocksNoCommit() throws {
        let failing = Self.service("bad", "exit 1")
        let box = try Self.box(Self.steady + failing)
        #expect(box.wait(10) { Int(box.service("daemons-bad")?[3] ?? "") ?? 0 > 1 }, "\(box.console)")
        let mark = "\(Self.folder)/twice"
        let once = Self.service("two", "[ -e \(mark) ] && exec sleep 1000; : >\(mark); exit 1", Self.own)
        let answer = try apply(Self.steady + failing + once, to: box)
        #expect(answer["probation"]?.list == ["service daemons-one", "service daemons-two"], "\(answer.line)")
        #expect(try Wait.until(10) { try status(box)["probation"] == nil }, "\(box.console)")
        #expect(try status(box)["commit"]?.integer == 1 && status(box)["rolled-back"] == nil)
        // When the commit changes it, it is.
        _ = try apply(Self.steady + Self.service("bad", "echo still; exit 4"), to: box)
        #expect(try rollbackReason(box)?.contains("daemons-bad") == true)
        #expect(try status(box)["commit"]?.integer == 1)
    }

    /// A service that is the same may live on what a commit takes away; files that it reloads are changes of it.
    @Test func aServiceThatACommitBreaksRollsItBack() throws {
        let path = "/run/vcpe/daemons/file"
        func file(_ content: String) -> String {
            "  file: {kind: file, id: \(path), path: \(path), content: \(content), owner: root, mode: 420}\n"
        }
        let script = "while grep -q good \(path); do sleep 0.1; done; echo it is bad; exit 5"
        let reader = Self.service("one", script, Self.own)
        let box = try Self.box(file("good") + reader)
        #expect(box.wait("daemons-one", "running"), "\(box.console)")
        let pid = box.service("daemons-one")?[2]
        _ = try apply(file("good as before") + reader, to: box)
        #expect(try Wait.until(10) { try status(box)["probation"] == nil }, "\(box.console)")
        #expect(box.service("daemons-one")?[2] == pid)
        _ = try apply(file("bad") + reader, to: box)
        let reason = try #require(try rollbackReason(box), "\(box.console)")
        #expect(reason.contains("ended with 5") && reason.hasSuffix("\n  it is bad"), "\(reason)")
        #expect(box.read(path) == "good as before" && box.wait("daemons-one", "running", seconds: 5))
        #expect(try status(box)["commit"]?.integer == 1)
    }

    /// Where PID 1 is ours, a program that is not there checks nothing, and no commit goes on without it.
    @Test func aFileWithoutItsCheckersBlessingChangesNothing() throws {
        let path = "/run/vcpe/daemons/file"
        func file(_ check: String, _ content: String) -> String {
            "  file: {kind: file, id: \(path), path: \(path), content: \(content), owner: root, mode: 384, check: \(check)}\n"
        }
        let grep = "[/bin/grep, -q, good, \(path)]"
        let box = try Self.box(file(grep, "good") + Self.steady)
        #expect(box.wait("daemons-one", "running"), "\(box.console)")
        #expect(try apply(file(grep, "good as before") + Self.steady, to: box)["error"] == nil)
        for (check, said) in [(grep, "ended with 1"), ("[/usr/sbin/nothing]", "/usr/sbin/nothing")] {
            let error = try apply(file(check, "bad") + Self.steady, to: box)["error"]?.text
            #expect(error?.contains(said) == true && error?.contains("site.yaml:2:") == true, "\(error ?? "applied")")
            #expect(box.read(path) == "good as before")
        }
    }

    /// A network namespace or a link that is not there yet is waited for.
    @Test(arguments: [true, false]) func aServiceWithoutItsNetworkBlocksNoCommit(_ lacksNamespace: Bool) throws {
        let box = try Self.box()
        #expect(box.wait("daemons-one", "running"), "\(box.console)")
        let link = "  link: {kind: link, id: ppp0, name: ppp0, external: {}}\n"
        let lacking =
            lacksNamespace
            ? Self.service("two", "exec sleep 1000", "network: absent")
            : link + Self.service("two", "exit 1; exec pppd-on --interface=ppp0")
        #expect(try apply(Self.steady + lacking, to: box)["error"] == nil)
        #expect(try Wait.until(10) { try status(box)["probation"] == nil }, "\(box.console)")
        #expect(try status(box)["commit"]?.integer == 1 && box.service("daemons-two")?[1] != "running")
    }

    /// A service that exits later than a commit without confirmation waits.
    @Test func servicesAreWatchedUntilTheConfirmation() throws {
        let box = try Self.box()
        #expect(box.wait("daemons-one", "running"), "\(box.console)")
        _ = try apply(Self.service("one", "sleep 4; exit 6"), to: box, confirm: 600)
        sleep(3)
        #expect(try status(box)["rollback-in"] != nil)
        #expect(try rollbackReason(box, within: 15)?.contains("ended with 6") == true)
        #expect(isSteady(box))
    }
}
