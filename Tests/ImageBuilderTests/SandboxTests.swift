import Files
import Glibc
import Processes
import Testing

/// A third party's plugin on a build host may do nothing but compute, whether a user or root
/// builds.
@Suite final class SandboxTests {
    let folder: String
    let tree: String

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-sandbox")
        tree = "\(folder)/tree"
        // The host's own busybox with its libraries, as packages would have them.
        let script = """
            chmod 755 '\(folder)'; mkdir -p '\(tree)/usr/bin' '\(tree)/usr/lib64' '\(tree)/usr/lib/vcpe/plugins/hostile'
            cp "$(command -v busybox)" '\(tree)/usr/bin/busybox'
            for name in sh cat ls id kill mknod mount mkdir touch dd head sleep wc grep ip chroot setsid; do
                ln -s busybox '\(tree)/usr/bin/'$name
            done
            ldd "$(command -v busybox)" | while read -r name arrow path rest; do
                case "$name" in
                /*) cp -L "$name" '\(tree)/usr/lib64/';;
                lib*) mkdir -p '\(tree)/usr/lib/x86_64-linux-gnu'; cp -L "$path" '\(tree)/usr/lib/x86_64-linux-gnu/';;
                esac
            done
            """
        try Command("sh", ["-ec", script]).check()
    }

    deinit { try? FileSystem.remove(folder) }

    /// Runs a shell script as a plugin.
    func run(_ script: String, deadline: Double = 20) throws -> Command.Result {
        let plugin = "\(folder)/hostile"
        try FileSystem.makeDirectory(plugin)
        try FileSystem.replace("\(plugin)/hostile", with: "#!/bin/sh\n\(script)\n", mode: 0o755)
        var command = Command("/usr/lib/vcpe/plugins/hostile/hostile", ["plan"])
        command.sandbox = Sandbox(tree: tree, folders: [.init(plugin, at: "usr/lib/vcpe/plugins/hostile")])
        return try command.begin().finish(deadline: deadline, limit: 1 << 20)
    }

    @Test func itHasNoPrivilegeAndNoUserOfTheHost() throws {
        let result = try run("id -u; id -g; grep -E '^(Cap(Eff|Prm|Inh|Bnd|Amb)|NoNewPrivs|Seccomp)' /proc/self/status")
        #expect(result.status == 0, "\(result.errorText)")
        let lines = result.text.split(separator: "\n").map { $0.filter { $0 != "\t" } }
        #expect(lines.prefix(2) == ["64999", "64999"])
        for set in ["Eff", "Prm", "Inh", "Bnd", "Amb"] {
            #expect(lines.contains("Cap\(set):0000000000000000"), "\(result.text)")
        }
        #expect(lines.contains("NoNewPrivs:1") && lines.contains("Seccomp:2"), "\(result.text)")
    }

    @Test func itSeesNothingOfTheHost() throws {
        let result = try run(
            """
            ls /; ls /dev; ls /proc | grep -c '^[0-9]'; ls /usr/lib/vcpe/plugins/hostile
            for path in /etc/passwd /root /home /sys/class /host \(folder) /usr/../../etc/shadow /dev/shm /tmp /proc/net; do
                cat "$path" 2>/dev/null && echo "read $path"; ls "$path" 2>/dev/null | grep -q . && echo "listed $path"
            done
            true
            """)
        #expect(result.status == 0, "\(result.errorText)")
        let lines = result.text.split(separator: "\n").map(String.init)
        #expect(
            lines.prefix(12).sorted() == [
                "bin", "data", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "tmp", "usr", "var",
            ])
        let devices = ["fd", "null", "shm", "stderr", "stdin", "stdout", "urandom", "zero"]
        #expect(lines.dropFirst(12).prefix(8).sorted() == devices)
        // Its own processes; the plugin's folder.
        let count = Int(lines.dropFirst(20).first ?? "") ?? 100
        #expect(count <= 3)
        #expect(Array(lines.dropFirst(21)) == ["hostile"], "\(result.text)")
    }

    @Test func itWritesNothing() throws {
        let result = try run(
            """
            for path in /x /usr/x /usr/lib/vcpe/plugins/hostile/x /dev/x /dev/shm/x /run/x /var/x /tmp/x \
                /proc/sys/kernel/core_pattern; do
                (echo evil > "$path") 2>/dev/null && echo "wrote $path"
            done
            (mknod /tmp/sda b 8 0) 2>/dev/null && echo "made a device"
            (mount -t tmpfs none /tmp) 2>/dev/null && echo "mounted"
            (mount -o remount,rw /usr) 2>/dev/null && echo "remounted"
            (chroot / true) 2>/dev/null && echo "changed its root"
            (mkdir /tmp/x) 2>/dev/null && echo "made a folder"
            exit 0
            """)
        #expect(result.status == 0 && result.text == "", "\(result.text)\(result.errorText)")
        #expect(!FileSystem.exists("\(tree)/usr/x") && !FileSystem.exists("\(folder)/hostile/x"))
    }

    @Test func itKillsNothingAndLeavesNothing() throws {
        let log = try File("\(folder)/log", O_RDWR | O_CREAT)
        let bystander = try Command("sleep", ["60"]).start(output: log)
        // A daemon of its own session ends with the plugin: it is of its PID namespace.
        let result = try run(
            "(setsid sleep 4321 >/dev/null 2>&1 &); kill -9 -1; kill -9 \(getpid()) \(bystander.pid); true")
        #expect([0, 128 + SIGKILL].contains(result.status), "\(result.errorText)")
        #expect(bystander.poll() == nil)
        let left = try Command("sh", ["-c", "grep -lsz '[4]321' /proc/[0-9]*/cmdline | wc -l"]).run().text
        #expect(left == "0\n")
        bystander.kill()
    }

    @Test func itHasBounds() throws {
        // Processes: some of a hundred can't be started.
        let forks = try run("for i in $(busybox seq 100); do sleep 5 & done 2>&1; true")
        #expect(forks.text.contains("can't fork") || forks.errorText.contains("can't fork"), "\(forks.errorText)")
        // Memory: a gigabyte in one variable.
        let memory = try run("x=$(head -c 1000000000 /dev/zero | busybox tr '\\0' x); echo grew")
        #expect(!memory.text.contains("grew"))
    }

    @Test func aDeadlineEndsItAndItsChildren() throws {
        #expect(throws: Command.Overrun.self) { try run("sleep 1234 & sleep 1234", deadline: 0.5) }
        usleep(100_000)
        #expect(try Command("sh", ["-c", "grep -lsz '[1]234' /proc/[0-9]*/cmdline | wc -l"]).run().text == "0\n")
    }

    @Test func aLinkInTheTreeIsNotMountedOver() throws {
        try FileSystem.makeDirectory("\(folder)/elsewhere")
        try FileSystem.remove("\(tree)/usr/lib/vcpe/plugins")
        guard symlink("\(folder)/elsewhere", "\(tree)/usr/lib/vcpe/plugins") == 0 else {
            throw SystemError("symlink", tree)
        }
        var command = Command("/usr/bin/ls", ["/"])
        command.sandbox = Sandbox(tree: tree, folders: [.init(folder, at: "usr/lib/vcpe/plugins")])
        let failure = thrown(SystemError.self) { try command.begin() }
        #expect(failure?.code == ELOOP)
    }
}
