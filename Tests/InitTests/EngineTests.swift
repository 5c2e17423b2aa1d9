import CSystem
import Documents
import Files
import Glibc
import PluginKit
import Processes
import TestSupport
import Testing

/// The engine as PID 1's first service.
@Suite(.serialized) struct EngineTests {
    private static let plugin = """
        #!/bin/sh
        capability=$(sed -n 's/.*"capability":"\\([a-z_]*\\)".*/\\1/p')
        [ "$1" = publish ] || echo '{"kind":"service","id":"daemons-one","name":"daemons-one","command":["/bin/sleep","1000"],"capabilities":["'$capability'"]}'

        """
    private static let manifest: JSON = [
        "name": "daemons", "version": "1", "summary": "of a test", "contract": 1, "key": "daemons", "yang": "none",
        "permissions": Permissions.wide("daemons").json,
        "features": [], "resources": ["service"],
    ]

    /// - Parameter more: words of the engine's unit.
    private static func box(more: String = "") throws -> Sandbox {
        try Sandbox(
            units: ["engine": "command /usr/lib/vcpe/vcpe-engine\nready notify\nessential\naccess init\n\(more)"],
            files: [
                "plugins/daemons/daemons": plugin, "plugins/daemons/manifest.json": manifest.pretty,
                "site.yaml": "daemons: {capability: net_raw}\n",
            ])
    }

    /// An engine that hangs gives no sign of life: PID 1 ends it and starts another, and what runs beside it goes on.
    @Test func anEngineThatHangsIsStartedAnew() throws {
        let box = try Self.box(more: "watchdog 3\n")
        #expect(box.wait("daemons-one", "running"), "\(box.ask("status") ?? "") \(box.console)")
        let (engine, daemon) = (box.service("engine")?[2], box.service("daemons-one")?[2])
        // Longer than its watchdog: a sound engine is left alone.
        sleep(5)
        #expect(box.service("engine")?[2] == engine)
        #expect(kill(try #require(box.outside(engine)), SIGSTOP) == 0)
        #expect(
            box.wait(20) { box.service("engine")?[2] != engine && box.service("engine")?[1] == "running" },
            "\(box.ask("status") ?? "")")
        #expect(box.console.contains("service engine gives no sign of life for 3 s: killed"), "\(box.console)")
        #expect(box.service("daemons-one")?[1] == "running" && box.service("daemons-one")?[2] == daemon)
    }

    /// Planning reads a unit as PID 1 does: a service that can't run is an error of the plan.
    @Test func aUnitThatPIDOneCantUseFailsTheChange() throws {
        let box = try Self.box()
        func apply(_ capability: String) throws -> String? {
            try box.askEngine([
                "do": "apply", "name": "site.yaml", "site": .text("daemons: {capability: \(capability)}\n"),
            ])["error"]?.text
        }
        #expect(box.wait("daemons-one", "running"), "\(box.ask("status") ?? "") \(box.console)")
        let before = box.service("daemons-one")?[2]
        let error = try apply("fly")
        #expect(
            error?.contains("plugin daemons plan") == true && error?.contains("fly") == true, "\(error ?? "applied")")
        #expect(box.service("daemons-one")?[1] == "running" && box.service("daemons-one")?[2] == before)
        #expect(try apply("net_admin") == nil)
        #expect(box.wait(5) { box.service("daemons-one")?[2] != before && box.service("daemons-one")?[1] == "running" })
    }

    /// A plugin that was taken over, run by the engine: it gets nothing, and all that it starts is
    /// in one cgroup.
    @Test func aHostilePluginReachesNothingOfTheBox() throws {
        let program = HostilePlugin.program(
            files: ["/usr/lib/vcpe/site.yaml", "/data/vcpe/secrets", "/run/vcpe/units"],
            sockets: ["/run/vcpe/init.sock", "/run/vcpe/engine.sock"], port: 22)
        func manifest(_ name: String) -> String {
            let manifest: JSON = [
                "name": .text(name), "version": "1", "summary": "of a test", "contract": 1, "key": .text(name),
                "yang": "none", "features": [], "resources": [], "publishes": [],
            ]
            return manifest.pretty
        }
        let box = try Sandbox(
            units: ["engine": "command /usr/lib/vcpe/vcpe-engine\nready notify\nessential\naccess init\n"],
            files: [
                "plugins/evil/evil": program, "plugins/evil/manifest.json": manifest("evil"),
                "plugins/idle/idle": "#!/bin/sh\nsleep 3 &\nsleep 3\n",
                "plugins/idle/manifest.json": manifest("idle"),
                "site.yaml": "{}\n",
            ], setup: "chmod 600 usr/lib/vcpe/site.yaml; mkdir -p data/vcpe/secrets")
        #expect(box.wait(20) { box.service("engine")?[1] == "running" }, "\(box.ask("status") ?? "") \(box.console)")
        let error = try box.askEngine(["do": "apply", "name": "site.yaml", "site": "evil: {}\n"])["error"]?.text ?? ""
        let start = try #require(error.firstIndex(of: "{"), "\(error)")
        let end = try #require(error.lastIndex(of: "}"), "\(error)")
        #expect(HostilePluginOutcome(try JSON.parse(Array(error[start...end].utf8))).findings(user: 64_000) == [])
        // The engine's calls, beside its own run.
        func calls() -> [String] {
            let group = box.path("/sys/fs/cgroup/services/engine")
            return ((try? FileSystem.list(group)) ?? []).filter { $0.hasPrefix("call-") }.map { "\(group)/\($0)" }
        }
        #expect(calls() == [])
        let connection = box.connect("/run/vcpe/engine.sock", inPackets: false)
        defer { close(connection) }
        let request = Array((JSON.object(["do": "apply", "name": "site.yaml", "site": "idle: {}\n"]).line + "\n").utf8)
        #expect(send(connection, request, request.count, Int32(MSG_NOSIGNAL)) == request.count)
        var members = 0
        #expect(
            box.wait(5) {
                members =
                    calls().first.flatMap { try? File("\($0)/cgroup.procs").read(4096, at: 0) }?
                    .filter { $0 == 10 }.count ?? 0
                return members == 3
            }, "\(members)")
        #expect(calls().count == 1)
        var answer = [UInt8](repeating: 0, count: 1 << 12)
        #expect(recv(connection, &answer, answer.count, 0) > 0)
        #expect(box.wait(5) { calls().isEmpty })
    }

    /// Who has the box restart hears that it does, however long the answer is on its way.
    @Test func aRestartIsAnsweredBeforeTheEngineEnds() throws {
        let box = try Self.box()
        #expect(box.wait("daemons-one", "running"), "\(box.ask("status") ?? "") \(box.console)")
        let engine = try #require(box.outside(box.service("engine")?[2]))
        let tracer = try Command(
            "strace", ["-qq", "-o", "/dev/null", "-p", "\(engine)", "-e", "inject=sendto:delay_enter=700000"]
        ).start(output: File("/dev/null", O_WRONLY))
        defer { tracer.kill() }
        #expect(
            box.wait(5) {
                let status = (try? File("/proc/\(engine)/status").read(4096, at: 0)) ?? []
                return String(decoding: status, as: UTF8.self).contains("TracerPid:\t\(tracer.pid)\n")
            })
        let answer = try box.askEngine(["do": "power", "deed": "reboot"])
        #expect(answer["error"] == nil, "\(answer.line)")
    }
}

extension Sandbox {
    func askEngine(_ request: JSON) throws -> JSON {
        let connection = connect("/run/vcpe/engine.sock", inPackets: false)
        guard connection >= 0 else { throw SystemError("connect", "engine.sock") }
        let file = File(descriptor: connection, path: "engine.sock")
        let bytes = Array((request.line + "\n").utf8)
        #expect(send(file.descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
        var answer = [UInt8](repeating: 0, count: 1 << 16)
        let count = recv(file.descriptor, &answer, answer.count, 0)
        guard count > 0 else { throw SystemError("recv", "engine.sock", code: count == 0 ? ECONNRESET : errno) }
        return try JSON.parse(Array(answer[..<count]))
    }
}
