import Files
import Glibc
import TestSupport
import Testing

/// Kernel settings that PID 1 writes from sysctl.d.
@Suite(.serialized) struct SettingTests {
    /// Some settings can be written once in a boot: of all that files have for a key, PID 1 writes
    /// the last alone.
    @Test func theLastValueOfASettingIsTheOnlyOneWritten() throws {
        let box = try Sandbox(
            setup: """
                mkdir -p usr/lib/sysctl.d etc/sysctl.d
                printf "net.ipv4.ip_default_ttl = 11\\n-net.ipv4.ip_default_ttl=22\\n" >usr/lib/sysctl.d/10-first.conf
                printf "# Later.\\nnet/ipv4/ip_default_ttl=33\\n" >usr/lib/sysctl.d/20-slashes.conf
                printf "net.ipv4.ip_default_ttl= 44\\n" >etc/sysctl.d/10-first.conf
                mkfifo .written
                mount --bind .written proc/sys/net/ipv4/ip_default_ttl
                sleep 1000 3<>.written &
                """)
        #expect(Wait.until(20) { box.ask("status") != nil }, "\(box.console)")
        let written = try File(box.path("/.written"), O_RDONLY | O_NONBLOCK)
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = read(written.descriptor, &buffer, buffer.count)
        #expect(String(decoding: buffer.prefix(max(0, count)), as: UTF8.self) == "44", "\(box.console)")
    }
}
