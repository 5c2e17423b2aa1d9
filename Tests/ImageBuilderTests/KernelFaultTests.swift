@testable import ImageBuilder
import Testing

@Suite struct KernelFaultTests {
    @Test func theConsoleTellsOfADeadKernel() {
        let oops = """
            [    7.012345] vcpe-init: up after 7012 ms
            [   22.712927] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\r
            [   22.713009] CPU: 1 UID: 0 PID: 0 Comm: swapper/1 Not tainted 6.12.94+deb13-cloud-amd64 #1  Debian 6.12.94-1\r
            [   22.719324] Kernel panic - not syncing: Fatal exception in interrupt\r
            """
        #expect(KernelFault(console: oops)?.line == "Oops: int3: 0000 [#1] PREEMPT SMP NOPTI")
        let panic = "[    3.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n"
        #expect(
            KernelFault(console: panic)?.line
                == "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b")
        #expect(KernelFault(console: "branch-office 1.0, slot a, up after 7012 ms\n") == nil)
    }
}
