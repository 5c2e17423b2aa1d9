import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import Testing

/// Programs that check files of a plan before a commit is applied.
@Suite(.serialized) struct FileCheckTests {
    /// Plans a file for each entry, with its `check`; `secret` plans a secret.
    private static let plugin = """
        #!/bin/sh
        [ "$1" = plan ] || exec cat >/dev/null
        exec jq -c '.configuration | to_entries[] | .key as $name | if $name == "secret"
            then {kind: "secret", id: "checked.key"}
            else {kind: "file", id: "/run/vcpe/checked/\\($name)", path: "/run/vcpe/checked/\\($name)",
                content: .value.text, owner: "root", mode: 384, at: $name}
                + (if .value.check then {check: .value.check} else {} end) end'

        """

    private static func box(_ site: String = "checked: {}\n") throws -> BoxInNetwork {
        let box = try BoxInNetwork(site: site, plugins: ["checked": plugin])
        try box.start()
        return box
    }

    /// A document: `a` has the check, and further files follow.
    private static func site(_ text: String, check: [String], _ more: String = "") -> String {
        "checked:\n  # Checked.\n  a: {text: \(JSON.text(text).line), check: \(JSON.texts(check).line)}\n\(more)"
    }

    private static func shell(_ script: String) -> [String] { ["/bin/sh", "-c", script] }

    private func content(_ box: BoxInNetwork, _ name: String) -> String? {
        let bytes = try? FileSystem.read("\(box.folder)/run/checked/\(name)")
        return bytes.map { String(decoding: $0, as: UTF8.self) }
    }

    /// The files of the plan are at their paths, also those that another one includes.
    @Test func aComplaintRefusesTheCommitAndChangesNothing() throws {
        let box = try Self.box()
        let check = Self.shell(
            "cd /run/vcpe/checked; grep -q good a && cat $(cut -d: -f2 a) || "
                + "{ printf \"no good\\033c\\n\" >&2; exit 7; }")
        let first = Self.site("good:b", check: check, "  b: {text: included}\n")
        #expect(try box.apply(first) == nil)
        #expect(content(box, "a") == "good:b" && content(box, "b") == "included")
        for bad in [Self.site("bad", check: check, "  b: {text: included}\n"), Self.site("good:b", check: check)] {
            let error = try #require(try box.apply(bad))
            for part in ["site.yaml:3:", "checked.a", "/run/vcpe/checked/a", "ended with 7", "no good\\x1bc"] {
                #expect(error.contains(part), "\(part): \(error)")
            }
            let preview = try box.ask("plan", ["site": .text(bad), "name": "site.yaml"])["error"]?.text
            #expect(preview?.contains("no good") == true, "\(preview ?? "planned")")
        }
        #expect(content(box, "a") == "good:b" && content(box, "b") == "included")
        #expect(try box.ask("history")["commits"]?.list?.count == 1 && box.ask("show")["site"]?.text == first)
        let folders = try FileSystem.list("\(box.folder)/run/engine").filter { $0.hasPrefix(".new.") }
        #expect(folders == [])
    }

    @Test func aCheckThatHangsIsRefusedAtTheDeadline() throws {
        let box = try Self.box()
        let begin = Clock.seconds
        // One has closed its output, and both count together.
        let hung = Self.site(
            "x", check: Self.shell("exec >&- 2>&-; sleep 60"),
            "  b: {text: y, check: [/bin/sleep, \"60\"]}\n  c: {text: z, check: [/bin/true]}\n")
        let error = try #require(try box.apply(hung))
        #expect((9.5..<14).contains(Clock.seconds - begin), "\(Clock.seconds - begin)")
        #expect(error.split(separator: "\n").count == 2 && error.contains("longer than 10 s"), "\(error)")
        #expect(content(box, "a") == nil && content(box, "c") == nil)
        #expect(try box.ask("history")["commits"]?.list == [])
    }

    @Test func aCheckCanDoNothingButCheck() throws {
        let script = """
            id -u; cat /run/vcpe/checked/a; echo; \
            for path in /run/vcpe/checked/new /run/vcpe/checked/a /data/new /run/new /etc/new /usr/new /var/new /proc/sys/kernel/hostname; do \
            (echo x >$path) 2>/dev/null && echo wrote $path; done; \
            echo x >/tmp/scratch && echo scratch $(cat /tmp/scratch); \
            head -c 1100000 /dev/zero >/tmp/large || echo bounded; \
            echo links $(tail -n +3 /proc/net/dev | cut -d: -f1); echo files $(ls -A /run /run/vcpe /data); \
            echo processes $(ls /proc | grep -c ^[0-9])
            """
        let box = try Self.box()
        let error = try #require(
            try box.apply(Self.site("x", check: Self.shell("{ \(script); } 2>&1; exit 1"))), "\(box.log)")
        let lines = error.split(separator: "\n").map { $0.drop { $0 == " " } }
        #expect(lines.contains("64700") && lines.contains("x") && lines.contains("scratch x"), "\(error)")
        #expect(lines.contains("bounded") && lines.contains("links lo"), "\(error)")
        #expect(lines.contains("files /data: /run: vcpe /run/vcpe: checked"), "\(error)")
        #expect(!error.contains("wrote"), "\(error)")
    }

    /// A file that only root may read is the check's to read, and what it prints of a secret is masked.
    @Test func secretsAreCheckedAndNotShown() throws {
        let box = try Self.box()
        let secret = "  secret: {}\n  key: {text: \"key ${secret:checked.key}\\n\"}\n"
        let path = "/run/vcpe/checked/key"
        let good = Self.shell("grep -Eq \"^key [0-9a-f]{64}$\" \(path) || { cat \(path); exit 1; }")
        let bad = Self.shell("stat -c %a,%u \(path); cat \(path); exit 1")
        // Before the secret is made, and when it is.
        for _ in 0..<2 {
            let error = try #require(try box.apply(Self.site("x", check: bad, secret)))
            #expect(error.contains("\n  600,64700\n  key \(Node.mask)"), "\(error)")
            #expect(try box.apply(Self.site("x", check: good, secret)) == nil)
        }
        #expect(content(box, "key")?.utf8.count == 69)
    }

    /// A preview makes no secret: it checks no file that has one, and says so.
    @Test func aPreviewTellsWhatItDoesNotCheck() throws {
        let box = try Self.box()
        let secret = "  secret: {}\n  key: {text: \"${secret:checked.key}\"}\n"
        let site = Self.site("x", check: Self.shell("exit 1"), secret)
        func warnings() throws -> [String] {
            let answer = try box.ask("plan", ["site": .text(site), "name": "site.yaml"])
            return (answer["warnings"]?.list ?? [answer["error"] ?? "neither"]).compactMap(\.text)
        }
        let unmade = try warnings()
        #expect(unmade.count == 1 && unmade[0].contains("the plugin checked are not checked"), "\(unmade)")
        // With the secret, the next preview checks.
        #expect(try box.apply("checked:\n  a: {text: x}\n\(secret)") == nil)
        let checked = try warnings()
        #expect(checked.count == 1 && checked.allSatisfy { $0.contains("ended with 1") }, "\(checked)")
    }

    /// A preview is killed with its caller's connection; the next one removes what it has left.
    @Test func leftoversOfKilledPreviewsAreRemoved() throws {
        let box = try Self.box()
        let folder = "\(box.folder)/run/engine/preview-check"
        let hung = try box.onBox([
            "sh", "-c",
            """
            cat >\(box.folder)/hung.yaml <<'end'
            \(Self.site("left over", check: Self.shell("exec sleep 60")))end
            \(box.folder)/vcpectl plan \(box.folder)/hung.yaml & pid=$!
            for i in $(seq 100); do [ -e \(folder)/0/run/vcpe/checked/a ] && break; sleep 0.1; done
            kill -9 $pid
            """,
        ])
        #expect(hung.status == 0, "\(hung)")
        let left = try FileSystem.read("\(folder)/0/run/vcpe/checked/a")
        #expect(String(decoding: left, as: UTF8.self) == "left over")
        // The next one runs when the engine has ended the first, and leaves nothing of either.
        let site = Self.site("x", check: Self.shell("cat /run/vcpe/checked/*; exit 1"))
        let error = try box.ask("plan", ["site": .text(site), "name": "site.yaml"])["error"]?.text ?? "planned"
        #expect(error.contains("ended with 1") && !error.contains("left over"), "\(error)")
        #expect(!FileSystem.exists(folder))
    }

    /// A check may print what the document keeps secret.
    @Test func secretsOfTheDocumentAreMaskedInErrors() throws {
        let box = try Self.box()
        let check = Self.shell("cat /run/vcpe/checked/*; exit 1")
        let site = Self.site("x", check: check, "  b: {text: \"user anna hunter2\\n\", password: hunter2}\n")
        for (verb, key) in [("apply", "site"), ("plan", "site")] {
            let answer = try box.ask(verb, [key: .text(site), "name": "site.yaml"])
            let error = answer["error"]?.text ?? "none"
            #expect(error.contains("user anna \(Node.mask)") && !error.contains("hunter2"), "\(verb): \(error)")
        }
        // Also of the document that is followed, which a new one has no more.
        #expect(try box.apply("checked:\n  b: {text: \"b\\n\", password: hunter2}\n") == nil)
        let old = Self.site("user anna hunter2", check: check)
        let error = try box.apply(old) ?? "applied"
        #expect(error.contains("user anna \(Node.mask)") && !error.contains("hunter2"), "\(error)")
    }

    @Test func outputIsBounded() throws {
        let box = try Self.box()
        let error = try #require(try box.apply(Self.site("x", check: Self.shell("yes | head -c 60000; exit 1"))))
        #expect(error.utf8.count < 2000 && error.contains("…"), "\(error.prefix(3000))")
        let flood = try #require(try box.apply(Self.site("x", check: ["/usr/bin/yes"])))
        #expect(flood.contains("bytes") && flood.utf8.count < 1000, "\(flood)")
    }

    @Test func dnsmasqChecksItsFiles() throws {
        let box = try Self.box()
        let check = ["/usr/sbin/dnsmasq", "--test", "--conf-file=/run/vcpe/checked/a"]
        func site(_ included: String) -> String {
            Self.site("port=0\nconf-file=/run/vcpe/checked/b\n", check: check, "  b: {text: \"\(included)\\n\"}\n")
        }
        #expect(try box.apply(site("dhcp-range=192.0.2.10,192.0.2.20,1h")) == nil)
        let error = try #require(try box.apply(site("domain-needed\\ndhcp-rage=192.0.2.10")))
        #expect(error.contains("site.yaml:3:") && error.contains("line 2 of /run/vcpe/checked/b"), "\(error)")
        #expect(content(box, "b") == "dhcp-range=192.0.2.10,192.0.2.20,1h\n")
    }
}
