import Addresses
import Disks
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// A box that people log in on: nobody at first, then whom a stick names, by SSH and at the console.
extension BootTests {
    @Test func peopleLogInAsTheSiteSays() async throws {
        let (image, options) = try await TestImages.managed()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        let network = try ProofNetwork(plan: try ProofRun("branch-managed", options: options).plan, folder: folder)
        let office = try BoxOffice(folder: folder, network: network)
        var machine = try TestImages.direct(image, disk: disk, folder: folder)
        machine.disks.append(.init(path: try office.stick()))
        machine.memory = 768
        machine.networks = [
            .init(.tap(descriptor: 3), mac: try network.side(.wan).boxMAC.description),
            .init(.tap(descriptor: 4), mac: try network.side(.lan).boxMAC.description),
        ]
        let box = try Machine(machine, in: folder, inheriting: network.taps)
        func says(_ text: String, _ seconds: Double = 90) -> Bool { box.wait(forConsole: text, seconds: seconds) }
        #expect(says("Nobody can log in on this box. Plug in a USB stick"), "\(box.story)")
        #expect(says("the document of the stick is followed: commit 1"), "\(box.story)")
        #expect(says("branch-7 on ttyS0") && says("branch-7 login:"), "\(box.story)")

        // By SSH, with the key that the document names, and as much as the role allows.
        var alice = office.ssh("alice", "services")
        #expect(try Wait.until(60) { try alice.run().status == 0 }, "\(box.story)")
        let services = try alice.run()
        #expect(services.text.contains("system-sshd  ") && services.text.contains("system-syslog  "), "\(services)")
        #expect(services.errorText.contains("Property of Example Ltd."))
        // The firewall's services, on a kernel that this machine doesn't run.
        #expect(services.text.contains("firewall-log  ") && services.text.contains("firewall-names  "), "\(services)")
        let names = office.ssh("alice", "firewall names")
        var known = ""
        #expect(
            try Wait.until(60) {
                known = try names.run().text
                return known.contains("www.example.test          1")
            }, "\(known) \(box.story)")
        let telnet = try ProofSocket(network.namespace(.lan), .ipv4, isStream: true)
        _ = telnet.connect(try network.side(.wan).host4, port: 23)
        // A connection that goes on is forwarded the fast way, by software where no card can.
        let listener = try ProofSocket(network.namespace(.wan), .ipv4, isStream: true)
        try listener.bind(try network.side(.wan).host4, port: 8443, listen: true)
        let talker = try ProofSocket(network.namespace(.lan), .ipv4, isStream: true)
        _ = talker.connect(try network.side(.wan).host4, port: 8443)
        #expect(listener.wait(seconds: 20))
        let (listening, _) = try #require(listener.accept())
        for i in 0..<20 {
            _ = talker.send([UInt8(i)])
            #expect(listening.wait(seconds: 10) && listening.receive().bytes == [UInt8(i)], "\(box.story)")
            _ = listening.send([UInt8(i)])
            #expect(talker.wait(seconds: 10) && talker.receive().bytes == [UInt8(i)])
        }
        let sessions = try office.ssh("alice", "firewall sessions").run().text
        #expect(
            sessions.split(separator: "\n").contains { $0.contains(":8443") && $0.contains("offloaded") },
            "\(sessions) \(box.story)")
        let log = office.ssh("alice", "log firewall-log")
        var noted = ""
        #expect(
            try Wait.until(60) {
                noted = try log.run().text
                return noted.contains(#""oob.prefix": "telnet: ""#)
            }, "\(noted) \(box.story)")
        let rita = try office.ssh("rita", "set nat.forwards[web].to-port 81").run()
        #expect(rita.status == 1 && rita.errorText.contains("edit is for the role customer"), "\(rita)")
        let oscar = try office.ssh("oscar", "lan flush").run()
        #expect(oscar.text.contains("names are looked up anew"), "\(oscar)")
        for stranger in ["root", "nobody", "_chrony"] {
            let refused = try office.ssh(stranger, "services").run()
            #expect(refused.status == 255 && refused.errorText.contains("Permission denied"), "\(stranger): \(refused)")
        }
        let tunnel = try office.ssh("alice", "status", ["-o", "ExitOnForwardFailure=yes", "-W", "192.168.1.10:80"])
            .run()
        #expect(tunnel.status != 0 && tunnel.errorText.contains("prohibited"), "\(tunnel)")

        // At the console, with a password: the wrong one first.
        try box.type("alice\n")
        #expect(says("Password: "))
        // What comes before the terminal stopped echoing is thrown away.
        sleep(2)
        try box.type("wrong\n")
        #expect(says("Login incorrect"), "\(box.story)")
        try box.type("alice\n")
        #expect(Wait.until(60) { box.console.occurrences(of: "Password: ") == 2 }, "\(box.story)")
        sleep(2)
        try box.type("hunter22\n")
        #expect(says("alice@branch-7> "), "\(box.story)")
        try box.type("show firewall.pol\t\u{7F}\n")
        #expect(says("show firewall.policies["), "\(box.story)")
        try box.type("status\n")
        #expect(says("all is applied"), "\(box.story)")
        try box.type("sta\t\tt\n\u{1B}[A\u{15}history\n")
        #expect(says("start  status"), "\(box.story)")
        #expect(says("from the stick"), "\(box.story)")
        try box.type("exit\n")
        #expect(Wait.until(60) { box.console.occurrences(of: "branch-7 login:") == 3 }, "\(box.story)")

        // Who is logged in stays so while the way in changes under him.
        let session = "\(folder)/session"
        let follower = try network.namespace(.lan).run {
            try office.ssh("alice", "log engine -f").start(output: File(session, O_WRONLY | O_CREAT))
        }
        let before = try office.hostKey(port: 22)
        #expect(before.contains("ssh-ed25519"))
        #expect(try office.ssh("alice", "set system.ssh.port 2222").run().status == 0)
        let commit = try office.ssh("alice", "commit --comment moved").run()
        #expect(commit.text.contains("commit 2 is applied"), "\(commit)")
        office.port = 2222
        alice = office.ssh("alice", "history")
        #expect(try Wait.until(60) { try alice.run().text.contains("moved") }, "\(box.story)")
        #expect(
            try Wait.until(60) {
                String(decoding: try FileSystem.read(session), as: UTF8.self).contains("commit 2 by alice is applied")
            })
        #expect(follower.poll() == nil)
        follower.kill()
        office.port = 22
        #expect(try office.ssh("alice", "history", ["-o", "ConnectTimeout=5"]).run().status == 255)
        office.port = 2222

        // What services and the kernel say arrives at both collectors.
        for kind in ["tcp", "tls"] {
            func collected() throws -> String {
                String(decoding: try FileSystem.read("\(folder)/collected.\(kind)"), as: UTF8.self)
            }
            let hasArrived = try Wait.until(30) {
                try collected().contains(" branch-7 system-sshd - - - Accepted publickey for alice")
            }
            let text = try collected()
            #expect(hasArrived && text.contains(" kernel - - "), "\(kind): \(text.prefix(3000)) \(box.story)")
        }

        try aUserTakesNothingFromOthers(box, office)

        // Back to the factory's document: the box forgets who it was to others.
        let reset = try office.ssh("alice", "factory-reset --yes").run()
        #expect(reset.text.contains("the box restarts") || reset.status == 255, "\(reset)")
        #expect(box.waitForEnd(), "\(box.story)")
        let again = try Machine(machine, in: folder, inheriting: network.taps)
        #expect(
            again.wait(forConsole: "factory reset: the box follows the factory's document", seconds: 120),
            "\(again.story)")
        // The stick is still there, and the box has no document again.
        #expect(again.wait(forConsole: "the document of the stick is followed: commit 1"), "\(again.story)")
        office.port = 22
        alice = office.ssh("alice", "history")
        #expect(try Wait.until(60) { try alice.run().status == 0 }, "\(again.story)")
        #expect(try !alice.run().text.contains("moved"))
        #expect(try office.hostKey(port: 22) != before)
        try again.tell("system_powerdown")
        #expect(again.waitForEnd(), "\(again.story)")
    }

    /// A user who may only read floods the standard input, and opens more sessions than he may
    /// have: that of an administrator stays, and sshd does.
    private func aUserTakesNothingFromOthers(_ box: Machine, _ office: BoxOffice) throws {
        func start(_ user: String, _ name: String) throws -> RunningProcess {
            try office.network.namespace(.lan).run {
                let file = try File("\(folder)/\(name)", O_WRONLY | O_CREAT)
                return try office.ssh(user, "log engine -f").start(output: file)
            }
        }
        func restartsOfSSH() throws -> Int? {
            let services = try JSON.parse(try office.ssh("alice", "services --json").run().text).list
            return services?.first { $0["name"]?.text == "system-sshd" }?["restarts"]?.integer
        }
        let before = try restartsOfSSH()
        let alice = try start("alice", "followed")
        let flood = try office.network.namespace(.lan).run {
            try office.ssh("rita", "load -").command.run(input: File("/dev/zero"))
        }
        #expect(flood.status == 1 && flood.errorText.contains("load is for the role"), "\(flood)")
        var held: [RunningProcess] = []
        defer { for process in held { process.kill() } }
        for number in 0..<9 { held.append(try start("rita", "held\(number)")) }
        #expect(Wait.until(120) { held.count { $0.poll() == nil } == 8 }, "\(box.story)")
        let refused = try office.ssh("rita", "status").run()
        #expect(refused.status == 1 && refused.errorText.contains("sessions, the most at a time"), "\(refused)")
        #expect(try before != nil && restartsOfSSH() == before, "\(box.story)")
        #expect(alice.poll() == nil)
        alice.kill()
    }

    /// The second entry of the boot menu.
    @Test func theBootMenuLeadsBackToTheFactory() async throws {
        let (image, _) = try await TestImages.managed()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        let esp = try #require(PartitionTable.read(try File(disk))["esp"])
        let place = "\(disk)@@\(esp.offset)"
        // What was flashed with the box is no factory's.
        let site = String(
            decoding: try FileSystem.read("\(TestImages.repository)/images/branch-office.site.yaml"), as: UTF8.self)
        try FileSystem.replace("\(folder)/site.yaml", with: site)
        try Command("mcopy", ["-o", "-i", place, "\(folder)/site.yaml", "::vcpe/site.yaml"]).check()
        try FileSystem.replace("\(folder)/loader.conf", with: "timeout 0\ndefault factory-reset.conf\n")
        try Command("mcopy", ["-o", "-i", place, "\(folder)/loader.conf", "::loader/loader.conf"]).check()
        let machine = try Machine(TestImages.uefi(disk: disk, folder: folder), in: folder)
        #expect(
            machine.wait(forConsole: "factory reset: the box follows the factory's document", seconds: 120),
            "\(machine.story)")
        #expect(machine.wait(for: "service-ready") != nil, "\(machine.story)")
        try machine.tell("system_powerdown")
        #expect(machine.waitForEnd(), "\(machine.story)")
        #expect(!machine.console.contains("the document that was flashed"))
        #expect(try Command("mdir", ["-b", "-i", place, "::vcpe"]).check().text.contains("site.yaml") == false)
    }
}

/// Who manages the box from its LAN: keys, a stick, and those who collect its logs.
private final class BoxOffice {
    private let folder: String
    let network: ProofNetwork
    private var collector: RunningProcess?
    var port = 22

    init(folder: String, network: ProofNetwork) throws {
        (self.folder, self.network) = (folder, network)
        try Command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", "\(folder)/key"]).check()
        try Command(
            "openssl",
            [
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=logs.example.net",
                "-addext",
                "subjectAltName=DNS:logs.example.net", "-keyout", "\(folder)/tls.key", "-out", "\(folder)/tls.pem",
            ]
        ).check()
        for kind in ["tcp", "tls"] { try FileSystem.replace("\(folder)/collected.\(kind)", with: "") }
        let script = """
            import socket, ssl, sys, threading
            folder = sys.argv[1]
            def take(connection, kind, wrap):
                try:
                    connection = wrap(connection)
                    while data := connection.recv(65536):
                        with open(f"{folder}/collected.{kind}", "ab") as file: file.write(data)
                except OSError as error: print(error, flush=True)
            def serve(port, kind, wrap):
                listener = socket.create_server(("0.0.0.0", port))
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=take, args=(connection, kind, wrap), daemon=True).start()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{folder}/tls.pem", f"{folder}/tls.key")
            tls = lambda connection: context.wrap_socket(connection, server_side=True)
            threading.Thread(target=serve, args=(6514, "tls", tls), daemon=True).start()
            serve(5514, "tcp", lambda connection: connection)
            """
        collector = try network.namespace(.lan).run {
            try Command("python3", ["-c", script, folder]).start(
                output: File("\(folder)/collector", O_WRONLY | O_CREAT))
        }
    }

    deinit { collector?.kill() }

    /// A disk with the site document that names people.
    func stick() throws -> String {
        func text(_ path: String) throws -> String { String(decoding: try FileSystem.read(path), as: UTF8.self) }
        let key = try text("\(folder)/key.pub").split(separator: "\n")[0]
        let hash = try Command("openssl", ["passwd", "-6", "-salt", "abcdefgh", "hunter22"]).check().text
            .split(separator: "\n")[0]
        let certificate = try text("\(folder)/tls.pem").split(separator: "\n").map { "        \($0)\n" }.joined()
        let site =
            try text("\(TestImages.repository)/images/branch-office.site.yaml").editing(
                "open: 500}}", with: "open: 500}, block-for: 1m}"
            ).editing(
                "  rules:\n",
                with: """
                      fast-path: hardware
                      logging: {packets: true, sessions: true}
                      rules:
                        - {name: telnet, from: lan, to: wan, protocol: tcp, ports: [23], action: reject, log: true, log-prefix: "telnet: "}
                        - {name: named, from: lan, to: wan, destination: [www.example.test], action: accept}

                    """) + """
                system:
                  hostname: branch-7
                  banner: Property of Example Ltd.
                  users:
                    - {name: alice, role: administrator, ssh-keys: [\(key)], password-hash: \(hash)}
                    - {name: oscar, role: operator, ssh-keys: [\(key)]}
                    - {name: rita, role: read-only, ssh-keys: [\(key)]}
                  ssh: {interfaces: [lan]}
                  console: {login: true}
                  syslog:
                    - {name: plain, server: 192.168.1.10, port: 5514, protocol: tcp}
                    - name: sealed
                      server: 192.168.1.10
                      certificate-name: logs.example.net
                      ca: |
                \(certificate)
                """
        let image = "\(folder)/stick.raw"
        try FileSystem.replace("\(folder)/site.yaml", with: site)
        try File(image, O_RDWR | O_CREAT).resize(to: 64 << 20)
        try Command("mkfs.vfat", ["-F", "32", "-n", "VCPE-SITE", image]).check()
        try Command("mcopy", ["-i", image, "\(folder)/site.yaml", "::site.yaml"]).check()
        return image
    }

    func ssh(_ user: String, _ words: String, _ options: [String] = []) -> SSH {
        SSH(
            network: network,
            command: Command(
                "ssh",
                [
                    "-i", "\(folder)/key", "-p", "\(port)", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                    "-o",
                    "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=20",
                ] + options + ["\(user)@192.168.1.1", words]))
    }

    /// The box's public key.
    func hostKey(port: Int) throws -> String {
        try network.namespace(.lan).run {
            try Command("ssh-keyscan", ["-T", "20", "-t", "ed25519", "-p", "\(port)", "192.168.1.1"]).run().text
        }
    }

    struct SSH {
        let network: ProofNetwork
        let command: Command

        func run() throws -> Command.Result { try network.namespace(.lan).run { try command.run() } }
        func start(output: File) throws -> RunningProcess { try command.start(output: output) }
    }

}
