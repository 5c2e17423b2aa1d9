import CSystem
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Planning
import PluginKit
import Processes
import TestSupport
import Testing

/// The box without a machine: the engine in a network of its own, between the LAN and the WAN of the proofs.
final class BoxInNetwork {
    static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    let folder: String
    let box: NetworkNamespace
    private(set) var engine: RunningProcess?
    private(set) var network: ProofNetwork?

    static let site = """
        network:
          zones: [wan, lan]
          interfaces:
            - name: wan
              zone: wan
              port: order 1
              ipv4: {addresses: [203.0.113.2/24]}
              ipv6: {addresses: ["2001:db8:1::2/64"]}
            - name: lan
              zone: lan
              bridge-ports: [order 2]
              ipv4: {addresses: [192.168.1.1/24]}
              ipv6: {addresses: ["fd00:1::1/64"]}
        firewall:
          policies:
            - {from: lan, to: wan, action: accept}
          rules:
            - {name: lan-pings-box, from: lan, to: box, protocol: icmp, action: accept}
            - {name: lan-to-box, from: lan, to: box, action: reject}
        nat:
          masquerade:
            - {from: lan, to: wan}
          forwards:
            - {name: web, from: wan, protocol: tcp, ports: 8080, to: 192.168.1.10, to-port: 80}

        """

    /// A site with routes in two tables, and a policy rule.
    static func routed(_ site: String) -> String {
        site.editing(
            "firewall:\n",
            with: """
                  routes:
                    - {to: 10.0.0.0/8, via: 192.168.1.254}
                    - {to: 0.0.0.0/0, via: 192.168.1.253, table: 10}
                  policy-routes:
                    - {priority: 1000, from: 192.168.1.64/26, table: 10}
                firewall:

                """)
    }

    /// - Parameters:
    ///   - plugins: further plugins by name: the text of each one's program.
    ///   - folders: of further plugins, as an image would get them.
    ///   - manifests: what the manifests of those of `plugins` have beside the least.
    ///   - foreign: those of `plugins` that are a third party's, without permissions but those of
    ///     `manifests`.
    init(
        site: String = BoxInNetwork.site, plugins: [String: String] = [:], folders: [String] = [],
        manifests: [String: [String: JSON]] = [:], foreign: Set<String> = []
    ) throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-netns")
        box = try NetworkNamespace()
        // Another program of this host may have loaded br_netfilter, which the images don't have: a bridge's frames would pass
        // the packet path twice.
        try box.run {
            for name in ["iptables", "ip6tables", "arptables"] {
                let path = "/proc/sys/net/bridge/bridge-nf-call-\(name)"
                if FileSystem.exists(path) { try File(path, O_WRONLY).write(Array("0".utf8), at: 0) }
            }
        }
        // Plugins run as nobodies, who must get there.
        chmod(folder, 0o755)
        try Command("cp", ["\(Self.repository)/.build/box/vcpe-box", folder]).check()
        for name in ["run", "data", "plugins", "logs", "devices"] { try FileSystem.makeDirectory("\(folder)/\(name)") }
        for name in ["vcpe-engine", "vcpectl", "vcpe-report"] { try link("\(folder)/\(name)") }
        for name in ["network", "firewall", "nat", "lan"] { try plugin(name) { try link($0) } }
        for (name, text) in plugins {
            try plugin(name) { try FileSystem.replace($0, with: text, mode: 0o755) }
            let manifest: [String: JSON] = [
                "name": .text(name), "version": "1", "summary": "of a test", "contract": 1, "key": .text(name),
                "yang": "none", "features": [], "resources": .texts(ResourceTypes.kinds),
                "permissions": foreign.contains(name) ? [:] : Permissions.wide(name).json,
            ]
            let whole = JSON.object(manifest.merging(manifests[name] ?? [:]) { $1 })
            try FileSystem.replace("\(folder)/plugins/\(name)/manifest.json", with: whole.pretty)
        }
        let own = ForeignPlugins.ownNames.union(plugins.keys).subtracting(foreign)
        try FileSystem.replace("\(folder)/plugins/\(ForeignPlugins.ownFile)", with: ForeignPlugins.file(Array(own)))
        for other in folders { try Command("cp", ["-r", "\(Self.repository)/\(other)", "\(folder)/plugins"]).check() }
        try FileSystem.replace("\(folder)/site.yaml", with: site)
    }

    deinit {
        engine?.kill()
        while let engine, engine.poll() == nil { usleep(5000) }
        try? FileSystem.remove(folder)
    }

    private func link(_ path: String) throws {
        guard symlink("\(folder)/vcpe-box", path) == 0 else { throw SystemError("symlink", path) }
    }

    /// The plugin that every image has; it plans without being asked to, and wants users that this host may lack.
    func addSystem() throws { try plugin("system") { try link($0) } }

    private func plugin(_ name: String, _ make: (String) throws -> Void) throws {
        let place = "\(folder)/plugins/\(name)"
        try FileSystem.makeDirectory(place)
        let built = "\(Self.repository)/.build/box/plugins/\(name)"
        for file in (try? FileSystem.list(built)) ?? [] {
            try FileSystem.replace("\(place)/\(file)", with: try FileSystem.read("\(built)/\(file)"))
        }
        try make("\(place)/\(name)")
    }

    /// Has the next engine be of that release of the image.
    func be(_ release: String) throws {
        try FileSystem.replace("\(folder)/image", with: "name test\nversion \(release)\n")
    }

    /// Puts the cables in, for a plan of the site.
    func connect() throws {
        let lines = try ask("plan")["lines"]?.list ?? []
        let plan = try lines.map { try Resource(try JSON.parse($0.text ?? "")) }
        network = try ProofNetwork(plan: plan, box: box, folder: folder)
    }

    /// Starts the engine and waits for its socket.
    ///
    /// - Parameters:
    ///   - users: lines of passwd(5) that its system has beside this host's.
    ///   - script: shell commands that the engine's own mount and UTS namespaces begin with.
    func start(users: [String] = [], preparedBy script: String = "") throws {
        try FileSystem.remove("\(folder)/run/engine.sock")
        let log = try File("\(folder)/log", O_WRONLY | O_CREAT | O_APPEND)
        engine = try box.run {
            let known = String(decoding: try FileSystem.read("/etc/passwd"), as: UTF8.self)
            let programs = "\(ProgramUser.name):x:\(ProgramUser.number):\(ProgramUser.number)::/:/usr/sbin/nologin"
            try FileSystem.replace(
                "\(folder)/passwd", with: known + (users + [programs]).map { $0 + "\n" }.joined())
            let words = ["\(folder)/vcpe-engine"] + places
            if users.isEmpty, script.isEmpty {
                return try Command(words[0], Array(words.dropFirst())).start(output: log)
            }
            let script = "mount --bind \(folder)/passwd /etc/passwd\n\(script)\nexec \"$0\" \"$@\""
            return try Command("unshare", ["--mount", "--uts", "sh", "-euc", script] + words).start(output: log)
        }
        for _ in 0..<500 where (try? ask("status")) == nil { usleep(20_000) }
        _ = try ask("status")
    }

    private var places: [String] {
        let folders = ["run", "data", "plugins", "logs", "devices", "firmware-site", "site-keys", "image"]
        return ["--factory-site", "\(folder)/site.yaml", "--modprobe", "/bin/true"]
            + folders.flatMap { ["--\($0)", "\(folder)/\($0)"] }
    }

    /// Asks the engine's program whether it could go on with what is there.
    func check() throws -> Command.Result {
        try box.run { try Command("\(folder)/vcpe-engine", ["check"] + places).run() }
    }

    /// Ends the engine as a fault would.
    func killEngine() {
        engine?.kill()
        while let engine, engine.poll() == nil { usleep(2000) }
    }

    var log: String { (try? FileSystem.read("\(folder)/log")).map { String(decoding: $0, as: UTF8.self) } ?? "" }

    /// Asks the engine, and doesn't wait for the answer.
    func say(_ what: String, _ more: [String: JSON] = [:]) throws -> File {
        let connection = csystem_connect_unix("\(folder)/run/engine.sock", 0)
        guard connection >= 0 else { throw SystemError("connect", "engine.sock") }
        let file = File(descriptor: connection, path: "engine.sock")
        var request = more
        request["do"] = .text(what)
        let bytes = Array((JSON.object(request).line + "\n").utf8)
        guard send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw SystemError("send", "engine.sock")
        }
        return file
    }

    func ask(_ what: String, _ more: [String: JSON] = [:]) throws -> JSON {
        try answer(from: try say(what, more))
    }

    /// Waits for the answer to a request.
    func answer(from file: File) throws -> JSON {
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while answer.last != 10 {
            let count = recv(file.descriptor, &buffer, buffer.count, 0)
            guard count > 0 else { throw SystemError("recv", "engine.sock", code: count == 0 ? ECONNRESET : errno) }
            answer += buffer[..<count]
        }
        return try JSON.parse(answer)
    }

    /// Runs a program as on a box: this engine's folder is /run/vcpe for it.
    func onBox(_ words: [String]) throws -> Command.Result {
        try Command(
            "unshare",
            [
                "--mount", "sh", "-c",
                "mount -t tmpfs tmpfs /run && mkdir /run/vcpe && mount --bind \(folder)/run /run/vcpe && exec \"$0\" \"$@\"",
            ] + words
        ).run()
    }

    /// Runs the operator's command.
    func run(_ arguments: [String]) throws -> Command.Result { try onBox(["\(folder)/vcpectl"] + arguments) }

    /// Reports a fact as root may, and waits until what follows of it is applied.
    func report(_ arguments: String...) throws {
        let result = try onBox(["\(folder)/vcpe-report"] + arguments)
        guard result.status == 0 else { throw SystemError("vcpe-report: \(result.errorText)", "", code: 0) }
        _ = try ask("status")
    }

    func vcpectl(_ arguments: String...) throws -> Command.Result { try run(arguments) }

    /// Gives the engine another document; its complaint when it refuses.
    ///
    /// - Parameter confirm: seconds within which it must be confirmed.
    func apply(_ site: String, confirm: Int? = nil) throws -> String? {
        var request: [String: JSON] = ["site": .text(site), "name": "site.yaml"]
        request["confirm"] = confirm.map { .integer($0) }
        return try ask("apply", request)["error"]?.text
    }

    /// All that a commit could change: rules, links, addresses, routes.
    func state() throws -> String {
        try box.run {
            try [
                ["nft", "list", "ruleset"], ["ip", "-o", "addr"], ["ip", "route", "show", "table", "all"],
                ["ip", "-6", "route"],
            ]
            .map { try Command($0[0], Array($0.dropFirst())).check().text }
            .joined().replacing(" tentative", with: "").split(separator: "\n").map { line in
                // What counts by itself is none of it.
                line.contains(" expires ") || line.contains("packets") ? "" : String(line)
            }.joined(separator: "\n")
        }
    }

    /// What a plan decides, and nothing that a link's coming and going leaves to the kernel.
    func decided() throws -> String {
        try box.run {
            func lines(_ words: String) throws -> [String] {
                let words = words.split(separator: " ").map(String.init)
                let text = try Command(words[0], Array(words.dropFirst())).check().text
                return text.split(separator: "\n").map(String.init)
            }
            var result = try lines("nft -s list ruleset")
            let links = try JSON.parse(Array(try lines("ip -j link").joined().utf8)).list ?? []
            result += links.map { link -> String in
                let isUp = link["flags"]?.list?.contains("UP") == true
                let names = link["altnames"]?.list?.compactMap(\.text) ?? []
                let words = [link["ifname"]?.text, link["master"]?.text, link["address"]?.text].map { $0 ?? "" }
                return (words + [isUp ? "up" : "down"] + names).joined(separator: " ")
            }.sorted()
            let addresses = try lines("ip -o -4 addr") + lines("ip -o -6 addr show scope global")
            result += addresses.map {
                $0.split(separator: " ").dropFirst().prefix(3).joined(separator: " ")
            }.sorted()
            result += try lines("ip -4 route").map { $0.replacing(" linkdown", with: "") }.sorted()
            for name in ["wan", "lan"] {
                result += (try? lines("cat /proc/sys/net/ipv6/conf/\(name)/accept_ra")) ?? []
            }
            return result.joined(separator: "\n")
        }
    }

    /// Ready for packets: started, with cables in.
    static func ready(
        site: String = BoxInNetwork.site, plugins: [String: String] = [:], folders: [String] = [],
        manifests: [String: [String: JSON]] = [:], foreign: Set<String> = [], release: String? = nil,
        machineID: String? = nil, users: [String] = []
    ) throws -> BoxInNetwork {
        let box = try BoxInNetwork(
            site: site, plugins: plugins, folders: folders, manifests: manifests, foreign: foreign)
        if let release { try box.be(release) }
        if let machineID { try FileSystem.replace("\(box.folder)/run/machine-id", with: machineID + "\n") }
        // Ports must be there before a plan names them: the engine takes them in as they come.
        try box.start(users: users)
        try box.connect()
        let end = Clock.seconds + 5
        while Clock.seconds < end, try !box.state().contains("192.168.1.1/24") { usleep(50_000) }
        return box
    }

    func probing() throws -> Probing {
        let network = try #require(network)
        return Probing(network: network, boxOnWAN: IPAddress("203.0.113.2"))
    }
}
