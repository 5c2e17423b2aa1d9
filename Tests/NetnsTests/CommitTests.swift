import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Commits: kept, confirmed, rolled back.
@Suite(.serialized) struct CommitTests {
    /// The standard site with another port behind the port forward, which the kernel's rules show.
    private func site(_ port: Int) -> String { BoxInNetwork.site.editing("to-port: 80}", with: "to-port: \(port)}") }

    private func port(_ box: BoxInNetwork) throws -> Int {
        let rules = try box.decided()
        let place = try #require(rules.firstRange(of: "dnat ip to 192.168.1.10:"))
        return Int(rules[place.upperBound...].prefix { $0.isNumber }) ?? 0
    }

    @Test func commitsAreKeptAndCanBeFollowedAgain() throws {
        let box = try BoxInNetwork.ready()
        #expect(try box.ask("status")["damage"] == nil && box.ask("history")["commits"]?.list == [])
        for port in [81, 82, 83] {
            #expect(
                try box.ask(
                    "apply", ["site": .text(site(port)), "name": "site.yaml", "comment": .text("port \(port)")])[
                        "error"]
                    == nil)
        }
        #expect(try port(box) == 83)
        let history = try #require(try box.ask("history")["commits"]?.list)
        #expect(history.map { $0["comment"]?.text } == ["port 83", "port 82", "port 81"])
        #expect(history.map { $0["state"]?.text } == ["active", nil, nil])
        #expect(history.allSatisfy { $0["user"]?.text == "root" && $0["time"]?.integer ?? 0 > 1_700_000_000 })
        #expect(try box.ask("show-commit", ["number": 2])["site"]?.text == site(82))
        #expect(try box.ask("rollback", ["number": 1])["commit"]?.integer == 4)
        #expect(try port(box) == 81)
        #expect(try box.ask("rollback", ["number": 77])["error"]?.text?.contains("there is no commit 77") == true)
        // What fails is no commit: neither a wrong document, nor one without content.
        let before = try box.decided()
        for wrong in ["network: 5\n", "", "# nothing\n", "~\n", "{}\n"] {
            #expect(try box.apply(wrong) != nil, "\(wrong)")
        }
        let preview = try box.ask("plan", ["site": "# nothing\n"])
        #expect(preview["error"]?.text?.contains("the document is empty") == true, "\(preview.line)")
        #expect(try box.decided() == before)
        #expect(try box.ask("history")["commits"]?.list?.count == 4)
        // As another engine finds it.
        box.killEngine()
        try box.start()
        #expect(try port(box) == 81 && box.ask("status")["commit"]?.integer == 4)
    }

    @Test func onlyTheLastFiftyAreKept() throws {
        let box = try BoxInNetwork.ready()
        for port in 0..<53 { #expect(try box.apply(site(1000 + port)) == nil) }
        let numbers = try #require(try box.ask("history")["commits"]?.list).compactMap { $0["number"]?.integer }
        #expect(numbers == Array((4...53).reversed()))
    }

    /// History has a size, too.
    @Test func hugeDocumentsDontFillTheDisk() throws {
        let box = try BoxInNetwork.ready()
        let comment = String(repeating: "# " + String(repeating: "x", count: 97) + "\n", count: 35_000)
        for port in 0..<21 { #expect(try box.apply(site(1000 + port) + comment) == nil) }
        let numbers = try #require(try box.ask("history")["commits"]?.list).compactMap { $0["number"]?.integer }
        #expect(numbers.first == 21 && numbers.count < 20 && numbers.count > 10, "\(numbers)")
        let files = try FileSystem.list("\(box.folder)/data/vcpe/commits")
        let size = try files.reduce(0) { try $0 + Int(File("\(box.folder)/data/vcpe/commits/\($1)").status().st_size) }
        #expect(size <= 64 << 20)
        #expect(try box.vcpectl("rollback", String(numbers[1])).status == 0)
    }

    @Test func whatIsNotConfirmedIsPutBack() throws {
        let box = try BoxInNetwork.ready()
        #expect(try box.apply(site(81)) == nil)
        #expect(try box.apply(site(82), confirm: 2) == nil)
        #expect(try port(box) == 82)
        #expect(try box.ask("status")["rollback-in"] != nil)
        #expect(try Wait.until(6) { try port(box) == 81 }, "\(box.log)")
        #expect(try box.ask("status")["commit"]?.integer == 1 && box.ask("show")["site"]?.text == site(81))
        // In time it stays.
        #expect(try box.apply(site(83), confirm: 2) == nil)
        #expect(try box.ask("confirm")["commit"]?.integer == 3)
        sleep(3)
        #expect(try port(box) == 83)
        #expect(try box.ask("confirm")["error"]?.text == "no commit waits for a confirmation")
        // Another one with a time gives more of it, and what is restored stays the same.
        #expect(try box.apply(site(84), confirm: 3) == nil)
        sleep(2)
        #expect(try box.apply(site(85), confirm: 3) == nil)
        sleep(2)
        #expect(try port(box) == 85)
        #expect(try Wait.until(6) { try port(box) == 83 }, "\(box.log)")
        // One without a time confirms.
        #expect(try box.apply(site(86), confirm: 2) == nil && box.apply(site(87)) == nil)
        sleep(3)
        #expect(try port(box) == 87)
        #expect(
            try box.ask("apply", ["site": .text(site(88)), "confirm": 0])["error"]?.text?.contains("1 to 86400") == true
        )
    }

    /// An engine that crashes meanwhile neither confirms nor rolls back; the next boot rolls back.
    @Test func aFallKeepsTheClockAndARestartPutsBack() throws {
        let box = try BoxInNetwork.ready()
        #expect(try box.apply(site(81)) == nil && box.apply(site(82), confirm: 4) == nil)
        box.killEngine()
        try box.start()
        #expect(try port(box) == 82)
        // A change of facts leaves the clock alone, too.
        try box.report("leases", "wan", "address=203.0.113.77/24")
        #expect(try Wait.until(8) { try port(box) == 81 }, "\(box.log)")

        #expect(try box.apply(site(83), confirm: 600) == nil)
        box.killEngine()
        let head = "\(box.folder)/data/vcpe/commits/head"
        let text = String(decoding: try FileSystem.read(head), as: UTF8.self)
        let boot = String(decoding: try File("/proc/sys/kernel/random/boot_id").read(36, at: 0), as: UTF8.self)
        #expect(text.contains(boot))
        let body = String(text.drop { $0 != " " }.dropFirst().dropLast()).editing(boot, with: "another-start")
        let hash = body.utf8.reduce(UInt64(0xCBF2_9CE4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        try FileSystem.replace(head, with: "\(String(hash, radix: 16)) \(body)\n")
        try box.start()
        #expect(try port(box) == 81, "\(box.log)")
        #expect(box.log.contains("commit 3 was not confirmed: the operator's document (commit 1) is active again"))
    }

    @Test func aDamagedStoreIsKeptAsideAndTheFactorysDocumentFollowed() throws {
        let box = try BoxInNetwork.ready()
        #expect(try box.apply(site(81)) == nil && box.apply(site(82)) == nil)
        for name in ["2", "head"] {
            box.killEngine()
            let path = "\(box.folder)/data/vcpe/commits/\(name)"
            var bytes = try FileSystem.read(path)
            bytes[bytes.count / 2] ^= 1
            try FileSystem.replace(path, with: bytes)
            try box.start()
            #expect(try port(box) == 80, "\(box.log)")
            #expect(
                try box.ask("status")["damage"]?.text?.contains(
                    "commits/\(name) is damaged; it is kept as \(name).damaged")
                    == true)
            #expect(try FileSystem.read("\(path).damaged") == bytes)
        }
        // Also who comes later knows it.
        box.killEngine()
        try box.start()
        #expect(
            try box.ask("status")["damage"]?.text?.contains("it is kept as head.damaged") == true && port(box) == 80)
        // The box goes on from there, and no number is used twice.
        #expect(try box.ask("apply", ["site": .text(site(83))])["commit"]?.integer == 3)
        #expect(try box.ask("status")["damage"] == nil)
        #expect(try box.ask("rollback", ["number": 1])["commit"]?.integer == 4)
        #expect(try port(box) == 81)
    }

    /// What a release had stand when it had the box is no reason to follow the factory's document, whatever became of it.
    @Test func eachReleaseHasItsOwnHeadAndADamagedOneIsNone() throws {
        let box = try BoxInNetwork.ready(release: "1.0.0")
        #expect(try box.apply(site(81)) == nil)
        func start(_ release: String, spoiling name: String? = nil) throws {
            box.killEngine()
            if let name {
                let path = "\(box.folder)/data/vcpe/commits/\(name)"
                try FileSystem.replace(
                    path, with: "spoiled " + String(decoding: try FileSystem.read(path), as: UTF8.self))
            }
            try box.be(release)
            try box.start()
        }
        try start("1.0.1")
        #expect(try port(box) == 81 && box.apply(site(82)) == nil)
        try start("1.0.0")
        #expect(try port(box) == 81, "\(box.log)")
        #expect(box.log.contains("is active again, as before release 1.0.1: commit 2 is kept"))
        try start("1.0.1")
        #expect(try port(box) == 82, "\(box.log)")
        // The active commit is followed then.
        try start("1.0.0", spoiling: "head.1.0.0")
        #expect(try port(box) == 82 && box.ask("status")["damage"] == nil, "\(box.log)")
        // So it is where nothing can be noted.
        box.killEngine()
        let commits = "\(box.folder)/data/vcpe/commits"
        try box.be("1.0.1")
        try Command("mount", ["--bind", commits, commits]).check()
        defer { umount2(commits, Int32(MNT_DETACH)) }
        try Command("mount", ["-o", "remount,bind,ro", commits]).check()
        try box.start()
        #expect(try port(box) == 82 && box.ask("status")["damage"] == nil, "\(box.log)")
        #expect(box.log.contains("the active commit can't be noted"))
    }

    /// The engine crashes when it has noted the active commit for the box, and not yet for the
    /// release: a fall-back finds it all the same.
    @Test(arguments: [true, false]) func aFallBetweenTheTwoHeadsLosesNoCommit(_ isStartedAgain: Bool) throws {
        let box = try BoxInNetwork.ready(release: "1.0.0")
        #expect(try box.apply(site(81)) == nil)
        let own = "\(box.folder)/data/vcpe/commits/head.1.0.0"
        let old = try FileSystem.read(own)
        #expect(try box.apply(site(82)) == nil)
        box.killEngine()
        try FileSystem.replace(own, with: old)
        for release in (isStartedAgain ? ["1.0.0"] : []) + ["1.0.1", "1.0.0"] {
            try box.be(release)
            try box.start()
            #expect(try port(box) == 82, "\(release): \(box.log)")
            box.killEngine()
        }
    }

    /// A release whose daemons write what earlier ones can't read works on a copy: the one before finds its own again, wherever power failed on the way.
    @Test func daemonsFindAStateThatTheyCanRead() throws {
        let box = try BoxInNetwork(plugins: ["notes": "#!/bin/sh\n"])
        let (data, states) = ("\(box.folder)/data", "\(box.folder)/data/vcpe/states")
        let manifest = "\(box.folder)/plugins/notes/manifest.json"
        let text = String(decoding: try FileSystem.read(manifest), as: UTF8.self)
        func start(format: Int) throws -> String? {
            try FileSystem.replace(
                manifest, with: text.editing("\"contract\"", with: "\"state-format\": \(format), \"contract\""))
            try box.start()
            box.killEngine()
            let file = "\(data)/notes/inner/log"
            return FileSystem.exists(file) ? String(decoding: try FileSystem.read(file), as: UTF8.self) : nil
        }
        func write(_ text: String) throws {
            try FileSystem.makeDirectory("\(data)/notes/inner")
            try FileSystem.replace("\(data)/notes/inner/log", with: text, mode: 0o640)
            chown("\(data)/notes/inner/log", 7, 8)
        }
        #expect(try start(format: 1) == nil)
        try write("by the first")
        symlink("inner/log", "\(data)/notes/link")
        // Nobody wrote anything while the format was the same.
        #expect(try start(format: 1) == "by the first" && !FileSystem.exists(states))
        #expect(try start(format: 2) == "by the first", "\(box.log)")
        try write("by the second")
        #expect(try start(format: 1) == "by the first", "\(box.log)")
        let status = try File("\(data)/notes/inner/log").status()
        #expect(status.st_uid == 7 && status.st_gid == 8 && status.st_mode & 0o777 == 0o640)
        #expect(try FileSystem.read("\(data)/notes/link") == Array("by the first".utf8))
        try write("by the first again")
        // On the way to what the second left: gone, and noted; whoever comes then finds its own.
        for isNoted in [false, true] {
            for format in [2, 1] {
                let copy = "\(box.folder)/copy"
                try Command("cp", ["-a", data, copy]).check()
                try FileSystem.rename("\(data)/notes", to: "\(states)/notes.1")
                if isNoted { try FileSystem.rename("\(states)/notes@1", to: "\(states)/notes@2") }
                #expect(try start(format: format) == (format == 2 ? "by the second" : "by the first again"))
                #expect(try start(format: 3 - format) == (format == 1 ? "by the second" : "by the first again"))
                try FileSystem.remove(data)
                try FileSystem.rename(copy, to: data)
            }
        }
        // A copy that power cut is made again.
        try Command("cp", ["-a", "\(data)/notes", "\(states)/.new.notes"]).check()
        #expect(
            try start(format: 3) == "by the first again"
                && FileSystem.list(states) == ["notes.1", "notes.2", "notes@3"])
        // An earlier one that was installed since has nothing to go back to.
        try FileSystem.remove("\(states)/notes.2")
        #expect(try start(format: 2) == nil && start(format: 3) == "by the first again", "\(box.log)")
        // Nothing that a daemon's user has put there is followed.
        try FileSystem.remove("\(data)/notes/inner")
        symlink("/etc", "\(data)/notes/inner")
        #expect(try start(format: 4) == nil)
        var link = stat()
        #expect(lstat("\(states)/notes.3/inner", &link) == 0 && link.st_mode & S_IFMT == S_IFLNK)
    }

    /// A disk without room for the copy: the release says so before it is installed, and does not touch the only state there is; whoever falls back needs no room.
    @Test func aFullDiskTakesNoDaemonsStateAway() throws {
        let box = try BoxInNetwork(plugins: ["notes": "#!/bin/sh\n"])
        let (data, manifest) = ("\(box.folder)/data", "\(box.folder)/plugins/notes/manifest.json")
        let text = String(decoding: try FileSystem.read(manifest), as: UTF8.self)
        func be(format: Int) throws {
            try FileSystem.replace(
                manifest, with: text.editing("\"contract\"", with: "\"state-format\": \(format), \"contract\""))
        }
        try Command("mount", ["-t", "tmpfs", "-o", "size=7m", "tmpfs", data]).check()
        defer { umount2(data, Int32(MNT_DETACH)) }
        let database = "\(data)/notes/database"
        try FileSystem.makeDirectory("\(data)/notes")
        try FileSystem.replace(database, with: [UInt8](repeating: 1, count: 2 << 20))
        try be(format: 2)
        try box.start()
        box.killEngine()
        try File(database, O_WRONLY).write([UInt8](repeating: 2, count: 2 << 20), at: 0)
        try FileSystem.replace("\(data)/filler", with: [UInt8](repeating: 0, count: 2 << 20))
        try be(format: 3)
        let check = try box.check()
        #expect(check.status == 1 && check.errorText.contains("on the data partition, and"), "\(check.errorText)")
        #expect(throws: SystemError.self) { try box.start() }
        #expect(box.log.contains("No space left on device"), "\(box.log)")
        #expect(try FileSystem.read(database) == [UInt8](repeating: 2, count: 2 << 20))
        // Full to the last byte.
        _ = try Command("dd", ["if=/dev/zero", "of=\(data)/filler", "bs=4k"]).run()
        try be(format: 1)
        try box.start()
        box.killEngine()
        #expect(try FileSystem.read(database) == [UInt8](repeating: 1, count: 2 << 20), "\(box.log)")
    }

    /// Power fails in the first start of a box, when its release is noted and the document that was flashed with it is not taken yet.
    @Test func whatWasFlashedIsTakenByTheSecondStartToo() throws {
        let box = try BoxInNetwork.ready(release: "1.0.0")
        box.killEngine()
        #expect(FileSystem.exists("\(box.folder)/data/vcpe/commits/head"))
        let esp = "\(box.folder)/esp"
        try File(esp, O_RDWR | O_CREAT).resize(to: 40 << 20)
        try Command("mkfs.vfat", ["-F", "32", "-s", "1", esp]).check()
        try FileSystem.replace("\(box.folder)/flashed.yaml", with: site(81))
        try Command("mmd", ["-i", esp, "::vcpe"]).check()
        try Command("mcopy", ["-i", esp, "\(box.folder)/flashed.yaml", "::vcpe/site.yaml"]).check()
        try FileSystem.replace("\(box.folder)/run/boot", with: "esp \(esp)\n")
        try box.start()
        #expect(try port(box) == 81, "\(box.log)")
        #expect(box.log.contains("the document that was flashed is the operator's from now on"))
    }
}
