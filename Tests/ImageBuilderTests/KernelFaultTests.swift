@testable import ImageBuilder
import Testing

@Suite struct KernelFaultTests {
    /// As QEMU 7.2 gave it, 22.7 s after the kernel's start.
    private let oops = """
        [    7.012345] vcpe-init: up after 7012 ms
        [   22.712927] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\r
        [   22.713009] CPU: 1 UID: 0 PID: 0 Comm: swapper/1 Not tainted 6.12.94+deb13-cloud-amd64 #1  Debian 6.12.94-1\r
        [   22.719324] Kernel panic - not syncing: Fatal exception in interrupt\r
        """

    @Test func anOopsIsToldFromAPanicOnPurpose() throws {
        let fault = try #require(KernelFault(console: oops))
        #expect(fault.line == "Oops: int3: 0000 [#1] PREEMPT SMP NOPTI" && fault.isOops)
        let panic = try #require(
            KernelFault(console: "[    3.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n"))
        #expect(!panic.isOops && panic.line.hasPrefix("Kernel panic - not syncing: Attempted to kill init!"))
        #expect(KernelFault(console: "branch-office 1.0, slot a, up after 7012 ms\n") == nil)
    }

    @Test func onlyTheOopsOfTheOldEmulatorIsExcused() throws {
        let fault = try #require(KernelFault(console: oops))
        let old = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
        #expect(fault.isKnown(of: old, .tcg))
        #expect(!fault.isKnown(of: old, .kvm))
        #expect(!fault.isKnown(of: "QEMU emulator version 10.0.7 (Debian 1:10.0.7+ds-0+deb13u1)", .tcg))
        let panic = try #require(KernelFault(console: "[    3.1] Kernel panic - not syncing: No working init found.\n"))
        #expect(!panic.isKnown(of: old, .tcg))
    }
}
