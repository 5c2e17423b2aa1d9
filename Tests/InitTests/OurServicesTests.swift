import Documents
import Files
import PluginKit
import Testing
import Units

/// Code execution in each of our services: the unit that the plugin plans, with another program.
@Suite struct OurServicesTests {
    private static let attacker = """
        #!/usr/bin/python3
        import errno, json, os, signal, socket, sys
        result = {}
        def attempt(name, deed):
            try: deed(); result[name] = "done"
            except OSError as error: result[name] = errno.errorcode.get(error.errno, str(error))
            except Exception as error: result[name] = str(error)
        def init(request):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect("/run/vcpe/init.sock")
            s.send(request); answer = s.recv(4096).decode()
            if not answer.endswith("ok\\n"): raise Exception("refused")
        def write(path): os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
        attempt("init", lambda: init(b"start victim"))
        attempt("units", lambda: write("/run/vcpe/units/planted"))
        attempt("others", lambda: os.listdir("/data/others"))
        attempt("others-run", lambda: os.listdir("/run/vcpe/others"))
        attempt("engine", lambda: os.listdir("/run/vcpe/engine"))
        attempt("secrets", lambda: os.listdir("/data/vcpe/secrets"))
        attempt("disk", lambda: os.open("/dev/vda", os.O_RDWR))
        attempt("sysctl", lambda: write("/proc/sys/kernel/core_pattern"))
        attempt("cgroup", lambda: write("/sys/fs/cgroup/cgroup.procs"))
        attempt("image", lambda: write("/usr/lib/vcpe/units/planted"))
        print(json.dumps(result), flush=True)
        signal.pause()

        """

    /// Of plans in the plugins' cases.
    private static func services() throws -> [String: ServiceResource] {
        var services: [String: ServiceResource] = [:]
        let folder = "\(Sandbox.repository)/Sources/Plugins"
        for plugin in try FileSystem.list(folder) {
            let cases = "\(folder)/\(plugin)/cases"
            guard FileSystem.isDirectory(cases) else { continue }
            for name in try FileSystem.list(cases) where name.hasSuffix(".plan") {
                let text = String(decoding: try FileSystem.read("\(cases)/\(name)"), as: UTF8.self)
                for line in text.split(separator: "\n") where line.contains("\"kind\":\"service\"") {
                    let service = try Resource(try JSON.parse(String(line))).as(ServiceResource.self)
                    if let service { services[service.name] = service }
                }
            }
        }
        return services
    }

    @Test func codeInAServiceReachesNothingOfTheBox() throws {
        let services = try Self.services()
        var units: [String: String] = ["victim": "command /bin/sleep 1000\nrestart never\n"]
        var folders: Set<String> = []
        var devices: Set<String> = []
        for service in services.values {
            var unit = service.unit
            unit.command = ["/usr/lib/test/attacker"]
            unit.readiness = .started
            unit.after = []
            (unit.isOnce, unit.reload, unit.network) = (false, nil, nil)
            // A host that is a container may lack it.
            unit.capabilities?.mask &= ~Capabilities(mask: 1 << 24).mask
            if service.user != "root" { (unit.user, unit.group) = (65534, 65534) }
            let files = service.configurationFiles + service.reloadFiles
            unit.profile?.visible += Set(files.compactMap { FileSystem.parent(of: $0) }).sorted()
            folders.formUnion((unit.profile?.writable ?? []) + (unit.profile?.visible ?? []))
            devices.formUnion((unit.profile?.devices ?? []).filter { !["*", "pts"].contains($0) })
            units[service.name] = try unit.text()
        }
        let box = try Sandbox(
            units: units, scripts: ["attacker": Self.attacker],
            setup: "mkdir -p data/others data/vcpe/secrets run/vcpe/others run/vcpe/engine run/vcpe/units dev/pts "
                + folders.sorted().map { $0.dropFirst() }.joined(separator: " ")
                + "\nmknod -m 600 dev/vda b 7 99\n"
                + devices.sorted().map { "[ -e dev/\($0) ] || mknod -m 600 dev/\($0) c 5 0" }.joined(separator: "\n"))
        #expect(services.count >= 8)
        for name in services.keys.sorted() {
            #expect(
                box.wait(20) { box.read("/run/log/\(name)").contains("}") },
                "\(name): \(box.service(name) ?? []) \(box.read("/run/log/\(name)"))")
            guard let line = box.read("/run/log/\(name)").split(separator: "\n").last(where: { $0.hasPrefix("{") })
            else { continue }
            let result = try JSON.parse(String(line)).object ?? [:]
            var reached = Set(result.filter { $0.value.text == "done" }.keys)
            // It installs releases: the disk is its work, with what the box keeps.
            if name == "upgrade-updater" {
                reached.subtract(["disk", "others", "others-run", "engine", "secrets", "units", "sysctl"])
            }
            #expect(reached.isEmpty, "\(name): \(line)")
        }
    }
}
