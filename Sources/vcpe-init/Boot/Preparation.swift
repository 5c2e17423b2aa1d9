import CSystem
import Glibc

/// What must stand in the verified root before anything is started: file systems, the kernel's
/// settings, the box's identity.
struct Preparation {
    /// The hostname where nobody gave one.
    var imageName: String?

    func run() {
        mountFileSystems()
        setUpKernel()
        setUpIdentity()
    }

    private func mountFileSystems() {
        let safe = UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC)
        // What lies in memory can't be reclaimed: all of these full, with /run and a /data in
        // memory, must leave room.
        let mounts: [(String, String, String, UInt, String)] = [
            ("cgroup2", "/sys/fs/cgroup", "cgroup2", safe, ""),
            ("devpts", "/dev/pts", "devpts", UInt(MS_NOSUID | MS_NOEXEC), "mode=0620,ptmxmode=0666"),
            ("tmpfs", "/dev/shm", "tmpfs", safe, "mode=1777,size=5%"),
            ("tmpfs", "/tmp", "tmpfs", safe, "mode=1777,size=15%"),
            ("tmpfs", "/var", "tmpfs", safe, "mode=0755,size=10%"),
        ]
        for (source, target, type, flags, options) in mounts {
            if target.hasPrefix("/dev/") { mkdir(target, 0o755) }
            if mount(source, target, type, flags, options) != 0 { Console.say("\(Failure("mount", target))") }
        }
        for name in ["cache", "lib", "lib/misc", "log", "spool", "tmp", "opt", "local"] {
            Text.makeFolder("/var/\(name)", mode: name == "tmp" ? 0o1777 : 0o755)
        }
        // Users that the site's document names, as libnss-extrausers looks for them.
        symlink("/run/vcpe/system/users", "/var/lib/extrausers")
        symlink("/run", "/var/run")
        symlink("/run/lock", "/var/lock")
        Text.makeFolder("/run/lock")
        VolatileDirectories.fill()
        Text.makeFolder("/run/log")
        symlink("/proc/self/fd", "/dev/fd")
        symlink("/proc/self/fd/0", "/dev/stdin")
        symlink("/proc/self/fd/1", "/dev/stdout")
        symlink("/proc/self/fd/2", "/dev/stderr")
        for folder in [Cgroup.root, Cgroup.services, Sessions.folder] { Cgroup.makeParent(folder) }
    }

    private func setUpKernel() {
        csystem_loopback_up()
        Text.write("/usr/lib/vcpe/modprobe", to: "/proc/sys/kernel/modprobe")
        // Some can be written once in a boot, so the last value of a key is the only one that is written.
        var (keys, values): ([String], [String: (value: String, isOptional: Bool)]) = ([], [:])
        for folder in ["/usr/lib/sysctl.d", "/etc/sysctl.d"] {
            for name in Text.list(folder) where name.hasSuffix(".conf") {
                for line in Text.lines("\(folder)/\(name)") {
                    guard let equals = line.firstIndex(of: "="), !line.hasPrefix(";") else { continue }
                    let key = line[..<equals].drop { $0 == "-" || $0 == " " }.filter { $0 != " " && $0 != "\t" }
                    if key.contains("*") { continue }
                    // A name whose first separator is a slash is the path (sysctl.d(5)).
                    let isPath = key.first { $0 == "." || $0 == "/" } == "/"
                    let name = isPath ? key : key.map { $0 == "." ? "/" : $0 == "/" ? "." : String($0) }.joined()
                    let value = line[line.index(after: equals)...].drop { $0 == " " }
                    if values[name] == nil { keys.append(name) }
                    values[name] = (String(value), line.hasPrefix("-"))
                }
            }
        }
        for key in keys {
            guard let (value, isOptional) = values[key] else { continue }
            if !Text.write(value, to: "/proc/sys/" + key), !isOptional { Console.say("sysctl \(key): not set") }
        }
    }

    /// Hostname, machine id and entropy: kept on /data, made where they are missing.
    private func setUpIdentity() {
        let kept = "/data/vcpe"
        Text.makeFolder(kept, mode: 0o700)
        let seed = Text.bytes(RandomSeed.path, limit: 512)
        // Credited once only: the seed is replaced before anything else may start from the same
        // one.
        if seed.count >= 32 { csystem_add_entropy(seed, seed.count) }
        RandomSeed.save()
        var id = Text.read("\(kept)/machine-id").filter { $0.isHexDigit }
        if id.count != 32 {
            var bytes = [UInt8](repeating: 0, count: 16)
            if csystem_random(&bytes, 16) != 0 {
                bytes = Array((Text.bytes("/dev/urandom", limit: 16) + bytes).prefix(16))
            }
            bytes[6] = bytes[6] & 0x0F | 0x40
            bytes[8] = bytes[8] & 0x3F | 0x80
            id = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            do {
                try Text.replace("\(kept)/machine-id", with: id + "\n")
            } catch {
                Console.say("the machine's identity can't be kept: \(error)")
            }
        }
        Text.write(id + "\n", to: "/run/vcpe/machine-id")
        let named = Text.read("\(kept)/hostname").split(separator: "\n").first.map(String.init)
        let name = named ?? imageName ?? "vcpe"
        name.withCString { _ = sethostname($0, strlen($0)) }
        Text.write(name + "\n", to: "/run/vcpe/hostname")
        // Programs look their own host's name up, and wait for a name server that is not there yet.
        Text.write(
            "127.0.0.1 localhost\n127.0.1.1 \(name)\n::1 localhost ip6-localhost ip6-loopback\n",
            to: "/run/vcpe/hosts")
        Text.write("", to: "/run/vcpe/resolv.conf")
    }
}

/// Entropy that one start leaves to the next.
enum RandomSeed {
    static let path = "/data/vcpe/random-seed"

    static func save() {
        var bytes = [UInt8](repeating: 0, count: 256)
        guard csystem_random(&bytes, bytes.count) == 0 else { return }
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { return }
        _ = Bytes.write(file, bytes, at: 0)
        fsync(file)
        close(file)
    }
}
