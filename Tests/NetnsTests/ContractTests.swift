import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// The contract between engine and plugins.
@Suite(.serialized) struct ContractTests {
    /// A plugin in shell and jq, written from the contract's page alone: packets knock, and a door opens.
    @Test func aPluginInAnotherLanguageIsOneLikeOurs() throws {
        let box = try BoxInNetwork.ready(folders: ["Examples/plugins/port-knock"])
        let door = "port-knock:\n  doors: [{name: ssh, from: wan, sequence: [7000, 8000, 9000], opens: 22, for: 600}]\n"
        #expect(try box.apply(BoxInNetwork.site + door) == nil)
        let proof = try #require(try PacketTests.proofs().first { $0.name == "WAN to the box by TCP is dropped" })
        let probing = try box.probing()
        #expect(try probing.run(proof).passed)
        func knock(_ ports: [Int]) throws {
            let socket = try ProofSocket(#require(box.network).namespace(.wan), .ipv4, isStream: false)
            for port in ports {
                #expect(try socket.send([1], to: #require(IPAddress("203.0.113.2")), port: port) >= 0)
                usleep(20_000)
            }
        }
        try knock([7000, 9000, 8000])
        #expect(try probing.run(proof).passed)
        #expect(try box.vcpectl("port-knock", "open").text == "DOOR  ADDRESS  SECONDS LEFT\n")
        try knock([9000])
        // The door is open: nobody is behind it, and TCP says so.
        var open = proof
        open.outcome = .rejected
        let result = try probing.run(open)
        #expect(result.passed, "\(result.seen) \(box.log)")
        let shown = try box.vcpectl("port-knock", "open").text
        #expect(shown.contains("ssh   203.0.113.1           59"), "\(shown)")
        // Who came in stays in, whatever else is changed; without the plugin's part the door is gone.
        #expect(try box.apply(BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 81}") + door) == nil)
        #expect(try probing.run(open).passed)
        #expect(try box.apply(BoxInNetwork.site) == nil && probing.run(proof).passed)
        let wrong = try box.apply(BoxInNetwork.site + door.editing("wan", with: "wam"))
        #expect(
            wrong?.contains("site.yaml:26:29: port-knock.doors[0].from: there is no zone \"wam\"") == true,
            "\(wrong ?? "")")
    }

    @Test func twoThatWantOneThingAreNamedWithTheirPlaces() throws {
        func plugin(_ at: String) -> String {
            let line =
                #"{"at":"\#(at)","id":"192.0.2.0/24 50","kind":"route","metric":50,"to":"192.0.2.0/24","via":"192.168.1.9"}"#
            return "#!/bin/sh\ncat >/dev/null\n[ $1 != plan ] || echo '\(line)'\n"
        }
        let box = try BoxInNetwork.ready(plugins: ["left": plugin("routes[0]"), "right": plugin("ways[1]")])
        let site = BoxInNetwork.site + "left:\n  routes: [here]\nright:\n  ways: [there, here]\n"
        let error = try box.apply(site)
        #expect(
            error == "error: plugins left and right both want route 192.0.2.0/24 50: left at left.routes[0] "
                + "(site.yaml:26:12), right at right.ways[1] (site.yaml:28:17)", "\(error ?? "")")
        #expect(try box.apply(BoxInNetwork.site + "left: {}\n") == nil)
    }

    @Test func versionsOfTheContractAreNegotiated() throws {
        let echo = "#!/bin/sh\ncat > /dev/null\n"
        let box = try BoxInNetwork.ready(plugins: ["old": echo, "new": echo])
        func speak(_ name: String, _ versions: String) throws {
            let path = "\(box.folder)/plugins/\(name)/manifest.json"
            let text = String(decoding: try FileSystem.read(path), as: UTF8.self)
            try FileSystem.replace(path, with: text.editing("\"contract\": 1", with: "\"contract\": \(versions)"))
        }
        try speak("new", "[1, 7]")
        try speak("old", "[7, 8]")
        // What the plugin is told.
        try FileSystem.replace(
            "\(box.folder)/plugins/new/new",
            with: "#!/bin/sh\ngrep -q '\"contract\":1' || { echo 'no contract' >&2; exit 3; }\n", mode: 0o755)
        box.killEngine()
        try box.start()
        #expect(try box.apply(BoxInNetwork.site + "new: {}\n") == nil, "\(box.log)")
        let error = try box.apply(BoxInNetwork.site + "old: {}\n")
        #expect(
            error
                == "plugin old speaks the contract in version 7, 8, and this engine in version 1: build the image with a "
                + "plugin of its own age", "\(error ?? "")")
        #expect(try box.ask("status")["trouble"] == nil)
    }

    @Test func documentsOfOlderPluginsAreMigrated() throws {
        let body = """
            #!/bin/sh
            input=$(cat)
            case "$1" in
            migrate) case "$input" in *'"from":"1"'*) echo '{"port":8080}';; *) echo '{}';; esac;;
            plan) case "$input" in *'"configuration":{"port":8080}'*)
                echo '{"id":"/run/vcpe/web/ready","kind":"file","content":"8080","mode":420,"owner":"root","path":"/run/vcpe/web/ready"}'
            esac;;
            esac

            """
        let box = try BoxInNetwork.ready(plugins: ["web": body])
        #expect(try box.apply(BoxInNetwork.site + "web: {http-port: 8080}\n") == nil)
        let file = "\(box.folder)/run/web/ready"
        #expect(!FileSystem.exists(file))
        box.killEngine()
        // Another image, with a newer plugin.
        let manifest = "\(box.folder)/plugins/web/manifest.json"
        let text = String(decoding: try FileSystem.read(manifest), as: UTF8.self)
        try FileSystem.replace(manifest, with: text.editing("\"version\": \"1\"", with: "\"version\": \"2\""))
        try box.start()
        #expect(FileSystem.exists(file), "\(box.log)")
        #expect(try box.vcpectl("show", "web").text == "port: 8080\n")
        #expect(box.log.contains("web: the configuration of version 1 is migrated to 2"))
        // The commit is what was given; going back to it migrates it again.
        #expect(try box.vcpectl("show-commit", "1").text.contains("http-port: 8080"))
        #expect(try box.apply(BoxInNetwork.site) == nil && !FileSystem.exists(file))
        #expect(try box.vcpectl("rollback", "1").status == 0)
        #expect(FileSystem.exists(file))
    }
}
