import Documents
import Files
import Glibc
import Processes
import TestSupport
import Testing

/// `vcpe plugin test` and `describe` run the programs of others.
@Suite final class PluginCommandTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-others") }

    deinit { try? FileSystem.remove(folder) }

    private func plugin(_ answer: String, publish: String) throws -> String {
        let plugin = "\(folder)/other"
        try FileSystem.makeDirectory("\(plugin)/cases")
        let manifest = """
            {"contract": 1, "name": "other", "version": "1", "summary": "s", "key": "other", "yang": "other.yang",
             "resources": [], "features": [], "files": ["data"]}
            """
        try FileSystem.replace("\(plugin)/manifest.json", with: manifest)
        try FileSystem.replace("\(plugin)/data", with: "its own data")
        let yang = "module other { namespace \"urn:o\"; prefix o; container other { leaf x { type string; } } }"
        try FileSystem.replace("\(plugin)/other.yang", with: yang)
        try FileSystem.replace("\(plugin)/cases/a.yaml", with: "configuration: {}\nfacts: {}\n")
        try FileSystem.replace("\(plugin)/cases/a.publish", with: publish)
        try FileSystem.replace("\(plugin)/cases/a.plan", with: "")
        let script = """
            #!/bin/bash
            case $1 in
            describe) cat "${0%/*}/manifest.json";;
            publish)
            \(answer)
            ;;
            esac
            """
        try FileSystem.replace("\(plugin)/other", with: script + "\n", mode: 0o755)
        return plugin
    }

    private func vcpe(_ words: String...) throws -> Command.Result {
        try Command(CommandTests.program, words, environment: ["HOME": folder]).run()
    }

    @Test func aPluginSeesItsFilesAndTheHostsPrograms() throws {
        let plugin = try plugin("cat \"${0%/*}/data\"; echo; echo 1 2 | awk '{print $2}'", publish: "its own data\n2\n")
        let result = try vcpe("plugin", "test", plugin)
        #expect(result.status == 0, "\(result.text)\(result.errorText)")
        let described = try vcpe("plugin", "describe", plugin)
        #expect(described.status == 0 && described.text.contains("version     1"), "\(described.errorText)")
    }

    /// An operator reads what the plugin can do to a box, and the builder of an image pastes it.
    @Test func whatAPluginCanDoIsSaid() throws {
        let plugin = try plugin("true", publish: "")
        let text = String(decoding: try FileSystem.read("\(plugin)/manifest.json"), as: UTF8.self)
        let permissions = """
            "permissions": {"stages": ["forward accept"], "sysctls": ["net/ipv4/conf/*"], "services":
              {"other-one": {"programs": ["/usr/sbin/one"], "users": ["root"], "capabilities": ["net_admin"]}}}, "files"
            """
        try FileSystem.replace("\(plugin)/manifest.json", with: text.replacing("\"files\"", with: permissions))
        let described = try vcpe("plugin", "describe", plugin)
        let can = described.text.split(separator: "\n").filter { $0.hasPrefix("can ") }.map { $0.dropFirst(12) }
        #expect(
            can == [
                "run programs as root: the service other-one", "run the service other-one as root: /usr/sbin/one",
                "  other-one: capabilities net_admin", "accept forwarded traffic", "set sysctls net/ipv4/conf/*",
            ], "\(described.text)\(described.errorText)")
        let allow = try vcpe("plugin", "describe", "--allow", "--json", plugin)
        let json = try JSON.parse(allow.output)["plugins"]?.list?.first
        let manifest = try JSON.parse(try FileSystem.read("\(plugin)/manifest.json"))
        #expect(json?["path"] == .text(plugin) && json?["allow"] == manifest["permissions"], "\(allow.text)")
        #expect(
            try JSON.parse(try vcpe("plugin", "describe", "--json", plugin).output)["permissions"]
                == manifest["permissions"])
        // A service as root is nothing that a third party may plan.
        let tested = try vcpe("plugin", "test", plugin)
        #expect(
            tested.status == 1 && tested.text.contains("service other-one asks for the user root"), "\(tested.text)")
    }

    /// The templates that need no compiler pass their own test, and no other plan does.
    @Test(arguments: ["python", "shell"]) func aSkeletonPassesItsTest(language: String) throws {
        let made = try Command(
            "sh",
            ["-c", "cd \(folder) && exec \"$0\" plugin new --language \(language) greeter", CommandTests.program],
            environment: ["HOME": folder]
        ).run()
        #expect(made.status == 0, "\(made.errorText)")
        let result = try vcpe("plugin", "test", "\(folder)/greeter")
        #expect(result.status == 0, "\(result.text)\(result.errorText)")
        #expect(result.text.contains("greeter: 2 answers, 3 examples, 0 findings"), "\(result.text)")
        let plan = "\(folder)/greeter/cases/hello.plan"
        let text = String(decoding: try FileSystem.read(plan), as: UTF8.self)
        try FileSystem.replace(plan, with: text.replacing("hello", with: "goodbye"))
        #expect(try vcpe("plugin", "test", "\(folder)/greeter").status == 1)
    }

    @Test func aPluginReachesNeitherTheHostNorItsNetwork() throws {
        try FileSystem.replace("\(folder)/private", with: "private\n", mode: 0o644)
        let script = """
            import socket
            server = socket.create_server(("127.0.0.1", 0))
            print(server.getsockname()[1], flush=True)
            while True: server.accept()
            """
        let log = try File("\(folder)/port", O_RDWR | O_CREAT)
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        let server = try Command("python3", ["-c", script], environment: ["PATH": path]).start(output: log)
        defer { server.kill() }
        for _ in 0..<200 where try log.size() == 0 { usleep(25_000) }
        let port = String(decoding: try log.read(16, at: 0), as: UTF8.self).filter(\.isNumber)
        let answer = """
            (echo evil > '\(folder)/written') 2>/dev/null && echo wrote
            (echo evil > '\(folder)/other/data') 2>/dev/null && echo changed its folder
            (echo evil > /tmp/vcpe-other) 2>/dev/null && echo wrote to /tmp
            (exec 3<>/dev/tcp/127.0.0.1/\(port)) 2>/dev/null && echo connected
            cat '\(folder)/private' 2>/dev/null
            ls /root /home 2>/dev/null
            echo done
            """
        let result = try vcpe("plugin", "test", try plugin(answer, publish: "done\n"))
        #expect(result.status == 0, "\(result.text)\(result.errorText)")
        #expect(!FileSystem.exists("\(folder)/written") && !FileSystem.exists("/tmp/vcpe-other"))
    }

    /// The host's root, and a user of it who has nothing but user namespaces, as builds have them.
    @Test(arguments: [0, 65534]) func aHostilePluginGetsNothing(user: Int) throws {
        let plugin = try plugin("", publish: "")
        chmod(folder, 0o755)
        try Command("cp", [try CommandTests.program, "\(folder)/vcpe"]).check()
        // The host's: a file of root's, and one that all may read; sockets; a place in memory for
        // all.
        for (name, mode) in [("secret", mode_t(0o600)), ("readable", 0o644)] {
            try FileSystem.replace("\(folder)/\(name)", with: "of the host\n", mode: mode)
        }
        let script = """
            import os, socket
            unix = socket.socket(socket.AF_UNIX); unix.bind("\(folder)/socket"); unix.listen()
            os.chmod("\(folder)/socket", 0o777)
            server = socket.create_server(("127.0.0.1", 0))
            print(server.getsockname()[1], flush=True)
            while True: server.accept()
            """
        let log = try File("\(folder)/port", O_RDWR | O_CREAT)
        let server = try Command("/usr/bin/python3", ["-c", script]).start(output: log)
        defer { server.kill() }
        for _ in 0..<400 where try log.size() == 0 { usleep(25_000) }
        let port = Int(String(decoding: try log.read(16, at: 0), as: UTF8.self).filter(\.isNumber)) ?? 0
        try FileSystem.replace(
            "\(plugin)/other",
            with: HostilePlugin.program(
                files: ["\(folder)/secret", "\(folder)/readable"], sockets: ["\(folder)/socket"], port: port),
            mode: 0o755)
        var command = Command("\(folder)/vcpe", ["plugin", "describe", plugin], environment: ["HOME": folder])
        if user != 0 {
            command.program = "setpriv"
            command.arguments =
                ["--reuid=\(user)", "--regid=\(user)", "--clear-groups", "\(folder)/vcpe"] + command.arguments
        }
        let outcome = try command.run()
        let text = outcome.errorText
        #expect(outcome.status == 1 && text.contains("it ended with 3"), "\(text)")
        let start = try #require(text.firstIndex(of: "{"), "\(text)")
        let end = try #require(text.lastIndex(of: "}"), "\(text)")
        #expect(HostilePluginOutcome(try JSON.parse(Array(text[start...end].utf8))).findings(user: 64_999) == [])
    }

    @Test func linesOfKindsOfPluginsAreTaken() throws {
        let plugin = try plugin("", publish: "")
        let line = #"{"body":[1,{"deep":true}],"id":"web","kind":"guest"}"#
        let foreign = #"{"id":"x","kind":"volume","size":7}"#
        let script = """
            #!/bin/bash
            case $1 in
            describe) cat "${0%/*}/manifest.json";;
            plan) echo '\(line)'; echo '\(foreign)';;
            esac

            """
        try FileSystem.replace("\(plugin)/other", with: script, mode: 0o755)
        try FileSystem.replace("\(plugin)/cases/a.plan", with: "\(line)\n\(foreign)\n")
        func test(_ resources: String, driver: String) throws -> Command.Result {
            let manifest = """
                {"contract": 1, "name": "other", "version": "1", "summary": "s", "key": "other", "yang": "other.yang",
                 "resources": \(resources), "features": [], "drivers": [{"kind": "guest", "program": "\(driver)"}]}
                """
            try FileSystem.replace("\(plugin)/manifest.json", with: manifest)
            return try vcpe("plugin", "test", plugin)
        }
        let missing = try test(#"["guest", "volume"]"#, driver: "drive-guests")
        #expect(missing.status == 1 && missing.errorText.contains("drive-guests"), "\(missing.errorText)")
        let result = try test(#"["guest", "volume"]"#, driver: "other")
        #expect(result.status == 0, "\(result.text)\(result.errorText)")
        #expect(result.text.contains("note: another plugin of the image must drive the kind \"volume\"\n"))
        let unlisted = try test(#"["guest"]"#, driver: "other")
        #expect(unlisted.status == 1 && unlisted.text.contains("kinds are "), "\(unlisted.text)")
        let described = try vcpe("plugin", "describe", plugin)
        #expect(
            described.text.contains("driver      guest: other, phase services, 30 s an answer, a look every 60 s\n"),
            "\(described.text)")
    }
}
