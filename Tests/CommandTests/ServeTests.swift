import Files
import Glibc
import Processes
import Testing

/// `vcpe release serve` leaves no server behind.
@Suite final class ServeTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-serve") }

    deinit { try? FileSystem.remove(folder) }

    /// Starts the command in a terminal of its own, ends it, and prints whether its port answered
    /// before and after.
    private static let script = """
        import os, pty, signal, socket, sys, time
        how, program, repository = sys.argv[1:]
        with socket.create_server(("127.0.0.1", 0)) as free: port = free.getsockname()[1]
        def answers():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError: return False
        def within(seconds, wanted):
            end = time.time() + seconds
            while time.time() < end and answers() != wanted: time.sleep(0.05)
            return answers()
        pid, terminal = pty.fork()
        if pid == 0: os.execv(program, [program, "release", "serve", repository, "--port", str(port)])
        before = within(20, True)
        if how == "terminal": os.close(terminal)
        else: os.kill(pid, signal.SIGKILL)
        print(before, within(5, False))
        """

    @Test(arguments: ["terminal", "kill"]) func theServerEndsWithItsTerminalAndItsCommand(how: String) throws {
        try FileSystem.makeDirectory("\(folder)/updates/metadata")
        try FileSystem.replace("\(folder)/updates/metadata/timestamp.json", with: "{}")
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        let result = try Command(
            "python3", ["-c", Self.script, how, CommandTests.program, "\(folder)/updates"], environment: ["PATH": path]
        ).run()
        #expect(result.text == "True False\n", "\(result.text)\(result.errorText)")
    }

    @Test func anAddressOfAnotherHostIsAnError() throws {
        try FileSystem.makeDirectory("\(folder)/updates/metadata")
        try FileSystem.replace("\(folder)/updates/metadata/timestamp.json", with: "{}")
        let result = try Command(
            CommandTests.program, ["release", "serve", "\(folder)/updates", "--address", "192.0.2.1"]
        ).run()
        #expect(result.status == 1)
        #expect(result.errorText.contains("error: 192.0.2.1:8000: httpd exited with"), "\(result.errorText)")
    }
}
