import Processes
import Testing

/// The box's executables as the linker made them (elf(5)).
@Suite struct BoxExecutablesTests {
    private static let folder =
        "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/.build/box"

    private func readelf(_ name: String) throws -> String {
        try Command("readelf", ["--wide", "--file-header", "--program-headers", "--dynamic", "\(Self.folder)/\(name)"])
            .check().text
    }

    @Test(arguments: ["vcpe-init", "vcpe-box", "vcpe-updater"]) func noStackIsExecutable(name: String) throws {
        let lines = try readelf(name).split(separator: "\n")
        let stack = try #require(lines.first { $0.contains("GNU_STACK") })
        #expect(stack.contains(" RW ") && !stack.contains("RWE"), "\(stack)")
        // No segment is both writable and executable.
        #expect(!lines.contains { $0.contains("LOAD") && $0.contains(" RWE ") })
    }

    /// Loaded at a random address; its tables of functions are read-only before it begins. PID 1 is
    /// static and has no such tables.
    @Test(arguments: ["vcpe-box", "vcpe-updater"]) func addressesAreRandomAndTablesReadOnly(name: String) throws {
        let text = try readelf(name)
        #expect(text.contains("DYN (Position-Independent Executable file)"), "\(text)")
        #expect(text.contains("GNU_RELRO") && text.contains("BIND_NOW") && text.contains("Flags: NOW PIE"), "\(text)")
    }

    /// Our C checks buffers (_FORTIFY_SOURCE) and stacks (-fstack-protector).
    @Test func buffersAndStacksAreChecked() throws {
        let symbols = try Command("readelf", ["--wide", "--dyn-syms", "\(Self.folder)/vcpe-box"]).check().text
        #expect(symbols.contains("__stack_chk_fail"))
        #expect(
            symbols.split(separator: "\n").contains {
                $0.contains(" UND ") && $0.contains("_chk@") && !$0.contains("__stack")
            })
    }
}
