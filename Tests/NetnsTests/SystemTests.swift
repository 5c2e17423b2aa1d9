import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// Who may do what, and what comes to a box from outside.
@Suite(.serialized) struct SystemTests {
    /// As the plugin system and the image would have them.
    private static let users = [
        "_chrony:x:4242:4242::/:/usr/sbin/nologin", "rita:x:20001:990::/:/bin/false", "oscar:x:20002:991::/:/bin/false",
        "alice:x:20003:992::/:/bin/false", "nemo:x:20004:20004::/:/bin/false",
    ]

    private func ready(site: String = BoxInNetwork.site) throws -> BoxInNetwork {
        let box = try BoxInNetwork(site: site)
        try box.addSystem()
        try box.start(users: Self.users)
        try box.connect()
        #expect(try Wait.until { try box.state().contains("192.168.1.1/24") }, "\(box.log)")
        return box
    }

    /// vcpectl as somebody, who belongs to the groups that the box would give him.
    private func ask(_ box: BoxInNetwork, as name: String, _ words: String...) throws -> Command.Result {
        let fields = try #require(Self.users.first { $0.hasPrefix(name + ":") }).split(separator: ":")
        let groups = name == "nemo" ? "\(fields[3])" : "\(fields[3]),\(Role.readOnly.group.number)"
        return try box.onBox(
            [
                "setpriv", "--reuid", "\(fields[2])", "--regid", "\(fields[3])", "--groups", groups,
                "\(box.folder)/vcpectl",
            ]
                + words)
    }

    @Test func theHostsFileFollowsTheHostName() throws {
        let box = try BoxInNetwork(site: BoxInNetwork.site + "system: {hostname: branch-7}\n")
        try box.addSystem()
        // As PID 1 leaves it.
        let hosts = "127.0.0.1 localhost\n127.0.1.1 vcpe\n::1 localhost\n"
        try box.start(
            users: Self.users,
            preparedBy: "mkdir -p /run/vcpe; mount -t tmpfs none /run/vcpe; printf '\(hosts)' >/run/vcpe/hosts")
        let folder = "/proc/\(box.engine?.pid ?? 0)/root/run/vcpe"
        func text(_ name: String) -> String {
            String(decoding: (try? FileSystem.read("\(folder)/\(name)")) ?? [], as: UTF8.self)
        }
        #expect(Wait.until { text("hostname") == "branch-7\n" }, "\(box.log)")
        #expect(text("hosts") == hosts.editing("127.0.1.1 vcpe", with: "127.0.1.1 branch-7"))
    }

    /// By the socket's own word who asks: a group for each role, and nothing for who has none.
    @Test func rolesAreToldByGroups() throws {
        let box = try ready()
        for name in ["rita", "oscar", "alice"] {
            #expect(try ask(box, as: name, "status").text.contains("all is applied"), "\(name)")
            #expect(try ask(box, as: name, "show", "nat.forwards[web].to-port").text == "80\n")
        }
        #expect(try ask(box, as: "nemo", "status").errorText.contains("Permission denied"))
        func refused(_ name: String, _ words: String..., by role: String) throws {
            let result = try box.onBox(
                ["setpriv", "--reuid", name == "rita" ? "20001" : "20002", "--regid", name == "rita" ? "990" : "991"]
                    + ["--groups", "990", "\(box.folder)/vcpectl"] + words)
            #expect(
                result.status == 1 && result.errorText.contains("is for the role \(role); \(name) has"), "\(result)")
        }
        try refused("rita", "firewall", "block", "192.0.2.66", by: "operator")
        try refused("rita", "set", "nat.forwards[web].to-port", "81", by: "customer")
        try refused("rita", "restart", "system-chrony", by: "operator")
        try refused("oscar", "set", "nat.forwards[web].to-port", "81", by: "customer")
        try refused("oscar", "rollback", "1", by: "customer")
        try refused("oscar", "reboot", by: "administrator")
        try refused("oscar", "factory-reset", "--yes", by: "administrator")
        #expect(try !box.decided().contains("192.0.2.66"))
        // An operator's command is his, and what it commits is in his name.
        #expect(try ask(box, as: "oscar", "firewall", "block", "192.0.2.66").status == 0)
        #expect(try box.decided().contains("192.0.2.66"))
        #expect(try ask(box, as: "alice", "set", "nat.forwards[web].to-port", "81").status == 0)
        #expect(try ask(box, as: "alice", "commit").text.contains("commit 2 is applied"))
        let history = try ask(box, as: "rita", "history").text
        #expect(history.contains("oscar") && history.contains("alice"), "\(history)")
        // What a service has said is to be had without being root.
        try FileSystem.replace("\(box.folder)/logs/engine", with: "one\ntwo\n")
        try FileSystem.replace("\(box.folder)/logs/engine.1", with: "before\n")
        #expect(try ask(box, as: "rita", "log", "engine").text == "before\none\ntwo\n")
        #expect(try ask(box, as: "rita", "log", "engin").errorText.contains("did you mean engine?"))
        let next = try box.ask("log", ["name": "engine"])["next"]?.text ?? ""
        let inode = next.split(separator: ":").first ?? ""
        for place in ["\(inode):\(Int.min)", "\(inode):-1", "\(inode):\(Int.max)", "\(inode):4", "x"] {
            let text = try box.ask("log", ["name": "engine", "from": .text(place)])["text"]?.text
            #expect(text == (place.hasSuffix(":4") ? "two\n" : "one\ntwo\n"), "\(place)")
        }
        #expect(
            try box.ask("service", ["deed": "stop", "name": "engine"])["error"]?.text?.contains("not to be stopped")
                == true)
        // Whoever the box doesn't know any more has nothing left, though his session lives.
        let passwd = String(decoding: try FileSystem.read("\(box.folder)/passwd"), as: UTF8.self)
        let others = passwd.split(separator: "\n").filter { !$0.hasPrefix("alice:") }.map { $0 + "\n" }.joined()
        try File("\(box.folder)/passwd", O_WRONLY | O_TRUNC).write(Array(others.utf8), at: 0)
        #expect(try ask(box, as: "alice", "status").errorText.contains("has no role on this box"))
        #expect(try ask(box, as: "rita", "status").status == 0)
    }

    /// A hash that a plugin copies into a file is masked in the plan's lines, too.
    @Test func aPlanShowsNoSecretOfTheDocument() throws {
        let box = try ready()
        let hash = "$6$abcdefgh$VcWNs0Iz3dUzLzvF5uDPG0r5Bd8Xq2i4"
        let site =
            BoxInNetwork.site + "system:\n  users: [{name: alice, role: administrator, password-hash: \(hash)}]\n"
        let planned = try box.ask("plan", ["site": .text(site), "name": "site.yaml"]).line
        #expect(planned.contains("alice:********:") && !planned.contains(hash), "\(planned)")
        #expect(try box.apply(site) == nil)
        let shadow = "\(box.folder)/run/system/users/shadow"
        #expect(String(decoding: try FileSystem.read(shadow), as: UTF8.self) == "alice:\(hash):::::::\n")
        #expect(try File(shadow).status().st_mode & 0o777 == 0o600)
        let wrong = try box.ask("plan", ["site": .text(site.editing(hash, with: "hunter22")), "name": "site.yaml"])
        #expect(
            wrong["error"]?.text?.contains("found a secret") == true && !wrong.line.contains("hunter22"),
            "\(wrong.line)")
        let bundle = try box.vcpectl("support-bundle").text
        #expect(bundle.contains("alice:********:") && !bundle.contains(hash))
    }

    /// Made once by a program of the image, kept for root alone, and never shown.
    @Test func aHostKeyIsMadeOnceAndKept() throws {
        let box = try ready()
        let site = BoxInNetwork.site + "system:\n  ssh: {interfaces: [lan]}\n"
        #expect(try box.apply(site) == nil)
        let path = "\(box.folder)/run/system/host-key"
        let key = try FileSystem.read(path)
        #expect(String(decoding: key, as: UTF8.self).hasPrefix("-----BEGIN OPENSSH PRIVATE KEY-----\n"))
        #expect(try File(path).status().st_mode & 0o777 == 0o600)
        #expect(try Command("ssh-keygen", ["-y", "-f", path]).check().text.hasPrefix("ssh-ed25519 "))
        #expect(try box.ask("plan").line.contains("OPENSSH") == false)
        // Gone with the document, and back with it.
        #expect(try box.apply(BoxInNetwork.site) == nil && !FileSystem.exists(path))
        #expect(try box.apply(site) == nil)
        #expect(try FileSystem.read(path) == key)
        #expect(try FileSystem.list("\(box.folder)/data/vcpe/secrets") == ["system.ssh-host-key"])
    }

    /// A disk with a label, as the kernel shows it.
    private final class Stick {
        let device: String
        private let box: BoxInNetwork

        init(_ box: BoxInNetwork, _ name: String, label: String, files: [String: String], isFAT: Bool = true) throws {
            let folder = "\(box.folder)/\(name)"
            try FileSystem.makeDirectory(folder)
            for (name, text) in files { try FileSystem.replace("\(folder)/\(name)", with: text) }
            let image = "\(folder).img"
            try File(image, O_RDWR | O_CREAT).resize(to: 40 << 20)
            if isFAT {
                try Command("mkfs.vfat", ["-n", label, image]).check()
                for name in files.keys {
                    try Command("mcopy", ["-i", image, "\(folder)/\(name)", "::\(name)"]).check()
                }
            } else {
                try Command("mkfs.ext4", ["-q", "-L", label, "-d", folder, image]).check()
            }
            self.box = box
            // The node is there before the kernel announces the disk, as on a box. Another test may
            // take the same free device first.
            for _ in 0..<20 {
                let free = try Command("losetup", ["--find"]).check().text.trimming(\.isNewline)
                let node = "\(box.folder)/devices/\(FileSystem.name(of: free))"
                guard symlink(free, node) == 0 else { throw SystemError("symlink", node) }
                if try Command("losetup", [free, image]).run().status == 0 {
                    device = free
                    return
                }
                try FileSystem.remove(node)
            }
            throw SystemError("losetup", image, code: EBUSY)
        }

        func pull() throws {
            try FileSystem.remove("\(box.folder)/devices/\(FileSystem.name(of: device))")
            try Command("losetup", ["--detach", device]).check()
        }

        deinit { _ = try? Command("losetup", ["--detach", device]).run() }
    }

    private func sign(_ site: String, with key: String, in folder: String) throws -> String {
        try FileSystem.replace("\(folder)/signed.yaml", with: site)
        try FileSystem.remove("\(folder)/signed.yaml.sig")
        try Command("ssh-keygen", ["-q", "-Y", "sign", "-f", key, "-n", "vcpe-site", "\(folder)/signed.yaml"]).check()
        return String(decoding: try FileSystem.read("\(folder)/signed.yaml.sig"), as: UTF8.self)
    }

    /// The system has the user of programs that the engine runs; ssh-keygen verifies as that user.
    private static let withPrograms = ":"

    @Test func aSiteComesFromAStickAndLaterOnlySigned() throws {
        let box = try BoxInNetwork.ready()
        box.killEngine()
        try box.start(preparedBy: Self.withPrograms)
        for name in ["good", "bad"] {
            try Command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "\(box.folder)/\(name)"]).check()
        }
        let key = String(decoding: try FileSystem.read("\(box.folder)/good.pub"), as: UTF8.self)
        func site(_ port: Int) -> String { BoxInNetwork.site.editing("to-port: 80}", with: "to-port: \(port)}") }
        func says(_ text: String) -> Bool { Wait.until { box.log.contains(text) } }
        var number = 0
        func plug(_ files: [String: String], label: String = "VCPE-SITE") throws -> Stick {
            number += 1
            return try Stick(box, "stick\(number)", label: label, files: files)
        }
        // The kernel mounts no stick.
        let other = try Stick(box, "ext4", label: "vcpe-site", files: ["site.yaml": site(80)], isFAT: false)
        #expect(says("is not read: its file system must be FAT"), "\(box.log)")
        try other.pull()
        // What can't be applied changes nothing, and is said.
        let broken = try plug(["site.yaml": site(81).editing("zone: wan", with: "zone: wann")])
        #expect(says("the document of the stick is not taken: ") && says("did you mean wan?"), "\(box.log)")
        try broken.pull()
        let foreign = try plug(["site.yaml": site(89)], label: "OTHER")
        let first = try plug(["site.yaml": site(81)])
        #expect(says("the document of the stick is followed: commit 1"), "\(box.log)")
        #expect(try box.decided().contains("192.168.1.10:81") && !box.log.contains("commit 2"))
        try foreign.pull()
        try first.pull()
        // From now on somebody must vouch for it.
        let unsigned = try plug(["site.yaml": site(82)])
        #expect(says("the box has a document already, and this image names no key"), "\(box.log)")
        try unsigned.pull()
        try FileSystem.replace("\(box.folder)/site-keys", with: "site namespaces=\"vcpe-site\" \(key)")
        let still = try plug(["site.yaml": site(83)])
        #expect(says("there is no site.yaml.sig beside it"), "\(box.log)")
        try still.pull()
        let forged = try plug([
            "site.yaml": site(84), "site.yaml.sig": try sign(site(84), with: "\(box.folder)/bad", in: box.folder),
        ])
        #expect(says("its signature is not one of the image's keys"), "\(box.log)")
        try forged.pull()
        let wrong = try plug([
            "site.yaml": site(85), "site.yaml.sig": try sign(site(86), with: "\(box.folder)/good", in: box.folder),
        ])
        #expect(Wait.until { box.log.occurrences(of: "is not one of the image's keys") == 2 }, "\(box.log)")
        try wrong.pull()
        #expect(try box.decided().contains("192.168.1.10:81"))
        let signed = [
            "site.yaml": site(87), "site.yaml.sig": try sign(site(87), with: "\(box.folder)/good", in: box.folder),
        ]
        let good = try plug(signed, label: "vcpe-site")
        #expect(says("the document of the stick is followed: commit 2"), "\(box.log)")
        #expect(try box.decided().contains("192.168.1.10:87"))
        // A stick that stays in doesn't undo what operators do later.
        #expect(try box.apply(site(88)) == nil)
        box.killEngine()
        try box.start(preparedBy: Self.withPrograms)
        #expect(says("the document of the stick was commit 2: vcpectl rollback 2 follows it again"), "\(box.log)")
        #expect(try box.decided().contains("192.168.1.10:88"))
        try good.pull()
        #expect(try Command("findmnt", ["-n", "-o", "TARGET"]).run().text.contains(box.folder) == false)
    }

    /// As QEMU's fw_cfg gives it.
    @Test func aSiteComesFromTheFirmware() throws {
        let box = try BoxInNetwork(site: BoxInNetwork.site)
        try FileSystem.replace(
            "\(box.folder)/firmware-site", with: BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 81}"))
        try box.start()
        // Ports come later than the document.
        #expect(
            Wait.until { box.log.contains("the document of the machine's firmware waits for absent ports: ") },
            "\(box.log)")
        try box.connect()
        #expect(
            Wait.until { box.log.contains("the document of the machine's firmware is followed: commit 1") },
            "\(box.log)")
        #expect(try box.decided().contains("192.168.1.10:81"))
        #expect(try box.vcpectl("history").text.contains("from the machine's firmware"))
    }

    /// An image with `site-keys-required` and without `usb-sites`: a document from the machine, and
    /// one that was flashed.
    @Test func alsoAFirstDocumentMustBeSigned() throws {
        let box = try BoxInNetwork.ready()
        box.killEngine()
        let site = BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 81}")
        try Command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "\(box.folder)/good"]).check()
        let key = String(decoding: try FileSystem.read("\(box.folder)/good.pub"), as: UTF8.self)
        try FileSystem.replace("\(box.folder)/site-keys", with: "site namespaces=\"vcpe-site\" \(key)")
        try FileSystem.replace(
            "\(box.folder)/image", with: "name test\nversion 1\nsite-keys-required yes\nusb-sites no\n")
        let signature = try sign(site, with: "\(box.folder)/good", in: box.folder)
        let esp = "\(box.folder)/esp"
        try File(esp, O_RDWR | O_CREAT).resize(to: 40 << 20)
        try Command("mkfs.vfat", ["-F", "32", "-s", "1", esp]).check()
        try Command("mmd", ["-i", esp, "::vcpe"]).check()
        try FileSystem.replace("\(box.folder)/flashed", with: site)
        try Command("mcopy", ["-i", esp, "\(box.folder)/flashed", "::vcpe/site.yaml"]).check()
        try FileSystem.replace("\(box.folder)/run/boot", with: "esp \(esp)\n")
        try FileSystem.replace("\(box.folder)/firmware-site", with: site)
        let stick = try Stick(
            box, "stick", label: "VCPE-SITE", files: ["site.yaml": site, "site.yaml.sig": signature])
        try box.start(preparedBy: Self.withPrograms)
        #expect(
            Wait.until {
                box.log.contains("the document that was flashed is not taken: there is no site.yaml.sig beside it")
                    && box.log.contains("the document of the machine's firmware is not taken: ")
                    && box.log.contains("this image takes no document without a signature")
            }, "\(box.log)")
        #expect(try box.decided().contains("192.168.1.10:80"))
        try stick.pull()
        #expect(!box.log.contains("the stick"), "\(box.log)")

        box.killEngine()
        try FileSystem.replace("\(box.folder)/firmware-site.sig", with: signature)
        try box.start(preparedBy: Self.withPrograms)
        #expect(
            Wait.until { box.log.contains("the document of the machine's firmware is followed: commit 1") },
            "\(box.log)")
        #expect(try box.decided().contains("192.168.1.10:81"))
    }

    /// The same for a document that was flashed with its signature.
    @Test func aSignedDocumentThatWasFlashedIsTaken() throws {
        let box = try BoxInNetwork.ready()
        box.killEngine()
        let site = BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 82}")
        try Command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "\(box.folder)/good"]).check()
        let key = String(decoding: try FileSystem.read("\(box.folder)/good.pub"), as: UTF8.self)
        try FileSystem.replace("\(box.folder)/site-keys", with: "site namespaces=\"vcpe-site\" \(key)")
        try FileSystem.replace("\(box.folder)/image", with: "name test\nversion 1\nsite-keys-required yes\n")
        let esp = "\(box.folder)/esp"
        try File(esp, O_RDWR | O_CREAT).resize(to: 40 << 20)
        try Command("mkfs.vfat", ["-F", "32", "-s", "1", esp]).check()
        try Command("mmd", ["-i", esp, "::vcpe"]).check()
        for (name, text) in [
            ("site.yaml", site), ("site.yaml.sig", try sign(site, with: "\(box.folder)/good", in: box.folder)),
        ] {
            try FileSystem.replace("\(box.folder)/flashed", with: text)
            try Command("mcopy", ["-i", esp, "\(box.folder)/flashed", "::vcpe/\(name)"]).check()
        }
        try FileSystem.replace("\(box.folder)/run/boot", with: "esp \(esp)\n")
        try box.start(preparedBy: Self.withPrograms)
        #expect(Wait.until { box.log.contains("the document that was flashed is the operator's from now on") })
        #expect(try box.decided().contains("192.168.1.10:82"), "\(box.log)")
    }

    @Test func aFactoryResetForgetsAllButTheBoxItself() throws {
        let box = try ready()
        let site = BoxInNetwork.site.editing("to-port: 80}", with: "to-port: 81}")
        #expect(try box.apply(site + "system:\n  ssh: {interfaces: [lan]}\n") == nil)
        let data = "\(box.folder)/data"
        for (path, text) in [
            ("vcpe/machine-id", "0123\n"), ("vcpe/upgrade/index", "7\n"), ("lan/leases", "of somebody\n"),
        ] {
            try FileSystem.makeDirectory(FileSystem.parent(of: "\(data)/\(path)") ?? data)
            try FileSystem.replace("\(data)/\(path)", with: text)
        }
        // Without PID 1 it isn't done, and isn't left for later either.
        #expect(try box.ask("factory-reset")["error"]?.text?.contains("PID 1 doesn't answer") == true)
        #expect(!FileSystem.exists("\(data)/vcpe/factory-reset"))
        try FileSystem.replace("\(data)/vcpe/factory-reset", with: "by a test\n")
        box.killEngine()
        try box.start(users: Self.users)
        #expect(box.log.contains("factory reset: the box follows the factory's document"), "\(box.log)")
        let decided = try box.decided()
        #expect(
            decided.contains("192.168.1.10:80") && !decided.contains("192.168.1.10:81"), "\(box.log)")
        #expect(try box.ask("history")["commits"]?.list?.isEmpty == true)
        // The audit log stays: a reset must not hide what came before it.
        #expect(try box.vcpectl("audit").text.contains("factory-reset"))
        let left = try FileSystem.list("\(data)/vcpe").filter { $0 != "clock" && $0 != "audit" }
        #expect(left == ["commits", "machine-id", "upgrade"] || left == ["machine-id", "upgrade"], "\(left)")
        #expect(try !FileSystem.exists("\(data)/lan/leases") && FileSystem.list("\(data)/vcpe/upgrade") == ["index"])
        // Once: what comes after it stays.
        #expect(try box.apply(site) == nil)
        box.killEngine()
        try box.start(users: Self.users)
        #expect(try box.decided().contains("192.168.1.10:81"))
    }
}
