import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import Testing

/// Kinds that a plugin's program drives, in the engine's own process (`DriverProgramTests` has the protocol).
@Suite(.serialized) struct DriverTests {
    private static let plan = """
        #!/bin/sh
        [ "$1" = plan ] || exec cat >/dev/null
        exec jq -c '.configuration | to_entries[] | {kind: "object", id: .key, text: .value}'

        """

    /// Keeps objects as files, and hangs when one is to have the text `hang`.
    private static let driver = """
        #!/bin/sh
        home=${0%/plugins/*}
        mkdir -p "$home/objects"
        while IFS= read -r request; do
            ask() { printf '%s' "$request" | jq "$@"; }
            file=$home/objects/$(ask -r '.resource.id // .present.id // empty')
            case $(ask -r .do) in
            check) ask -c 'first(.resources[] | select(.text == "wrong") | {error: "it is wrong", id}) // {}' ;;
            observe) find "$home/objects" -type f -exec cat {} + | jq -cs '{resources: .}' ;;
            apply)
                echo "applies $file" >&2
                ask -c .resource >"$home/new" && mv "$home/new" "$file"
                if [ "$(ask -r .resource.text)" = hang ]; then
                    echo $$ >"$home/hangs"
                    exec sleep 1000
                fi
                echo '{}'
                ;;
            remove) rm "$file" && echo '{}' ;;
            esac
        done

        """

    private func box(_ site: String) throws -> BoxInNetwork {
        let box = try BoxInNetwork(site: site, plugins: ["keeper": Self.plan])
        let plugin = "\(box.folder)/plugins/keeper"
        try FileSystem.replace("\(plugin)/drive", with: Self.driver, mode: 0o755)
        var manifest = try JSON.parse(try FileSystem.read("\(plugin)/manifest.json")).object ?? [:]
        manifest["resources"] = ["object"]
        manifest["drivers"] = [["kind": "object", "program": "drive", "interval": 1]]
        try FileSystem.replace("\(plugin)/manifest.json", with: JSON.object(manifest).pretty)
        try box.start()
        return box
    }

    private func objects(_ box: BoxInNetwork) throws -> [String: String] {
        var objects: [String: String] = [:]
        for name in try FileSystem.list("\(box.folder)/objects") {
            objects[name] = try JSON.parse(try FileSystem.read("\(box.folder)/objects/\(name)"))["text"]?.text
        }
        return objects
    }

    @Test func anOperatorCommitsResourcesOfAPluginsKind() throws {
        let box = try box("keeper: {a: one}\n")
        let first = try objects(box)
        #expect(first == ["a": "one"], "\(box.log)")
        #expect(box.log.contains("keeper/drive: applies \(box.folder)/objects/a\n"))
        let refusal = try box.apply("keeper: {a: two, b: wrong}\n")
        #expect(
            refusal == "object b: the driver drive of the plugin keeper refuses it: it is wrong", "\(refusal ?? "")")
        #expect(try box.apply("keeper: {a: two, b: right}\n") == nil)
        let second = try objects(box)
        #expect(second == ["a": "two", "b": "right"])
        // What others change is repaired by the running engine.
        try FileSystem.remove("\(box.folder)/objects/a")
        for _ in 0..<400 where try objects(box) != second { usleep(25_000) }
        let repaired = try objects(box)
        #expect(repaired == second && box.log.contains("drift: object a is missing"), "\(box.log)")
        #expect(try box.ask("status")["trouble"] == nil)
    }

    @Test func aProgramEndsWithAnEngineThatIsKilledWithinAChange() throws {
        let box = try box("keeper: {a: one}\n")
        let request = try box.say("apply", ["site": "keeper: {a: two, b: hang, c: three}\n", "name": "site.yaml"])
        for _ in 0..<400 where !FileSystem.exists("\(box.folder)/hangs") { usleep(25_000) }
        let halfWay = try objects(box)
        #expect(halfWay == ["a": "two", "b": "hang"])
        let text = String(decoding: try FileSystem.read("\(box.folder)/hangs"), as: UTF8.self)
        let pid = try #require(pid_t(text.filter(\.isNumber)))
        withExtendedLifetime(request) { box.killEngine() }
        for _ in 0..<400 where kill(pid, 0) == 0 { usleep(10_000) }
        let state = (try? File("/proc/\(pid)/stat").read(4096, at: 0)) ?? []
        #expect(state.isEmpty || String(decoding: state, as: UTF8.self).contains(") Z "))
        // The next engine follows the old document, and observes what was done.
        try box.start()
        let after = try objects(box)
        #expect(after == ["a": "one"], "\(box.log)")
        #expect(try box.ask("status")["trouble"] == nil)
    }
}
