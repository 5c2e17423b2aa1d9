import Files
import Processes

/// The death of a machine's kernel, as its console tells it.
public struct KernelFault: Sendable, Hashable {
    /// The first line that says so, without its time.
    public var line: String
    /// The kernel ran into what it can't run, rather than giving up on purpose.
    public var isOops: Bool

    /// Nil when the console tells of none.
    public init?(console: String) {
        let lines = console.split(whereSeparator: \.isNewline)
        func first(_ words: String) -> String? {
            lines.first { $0.contains(words) }.map { line in
                String(line.firstRange(of: "] ").map { line[$0.upperBound...] } ?? line)
            }
        }
        guard let line = first("Oops: ") ?? first("Kernel panic - not syncing") else { return nil }
        self.line = line
        isOops = first("Oops: ") != nil
    }

    /// Whether the emulator, and not the image, is known to cause it: QEMU 7's emulation by several threads now and then
    /// shows a processor half of an instruction that another one is rewriting. Newer ones don't (`docs/decisions.md`).
    ///
    /// - Parameter version: what `qemu --version` prints.
    public func isKnown(of version: String, _ accelerator: Accelerator) -> Bool {
        isOops && accelerator == .tcg && version.contains("version 7.")
    }

    /// ``isKnown(of:_:)`` of the QEMU that runs the machines here.
    public func isKnown(_ accelerator: Accelerator) throws -> Bool {
        isKnown(of: try Command(QEMU.find(), ["--version"]).run().text, accelerator)
    }
}
