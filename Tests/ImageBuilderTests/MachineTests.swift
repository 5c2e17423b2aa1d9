import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import Testing

/// The machine that `vcpe run` and `vcpe test` boot an image in.
@Suite final class MachineTests {
    private let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-machine") }

    deinit { try? FileSystem.remove(folder) }

    // MARK: - Variables

    private static let snakeoil = "/usr/share/ovmf/PkKek-1-snakeoil.pem"

    /// Debian's own store with its test key is the oracle: what we enroll reads the same.
    @Test func aCertificateIsEnrolledAsDebianDoesIt() throws {
        let debian = try VariableStore(FileSystem.read(OVMF.find(secureBoot: true).variables))
        var store = try VariableStore(FileSystem.read(OVMF.find(secureBoot: false).variables))
        let before = store.bytes.count
        let certificate = try PEM.certificate(FileSystem.read(Self.snakeoil))
        let encoded = try Command("openssl", ["x509", "-in", Self.snakeoil, "-outform", "DER"]).check().output
        #expect(certificate == Array(encoded))
        try store.enroll(certificate: certificate)
        #expect(store.bytes.count == before)
        for name in ["PK", "KEK", "db", "SecureBootEnable"] {
            let theirs = try #require(debian.variables.last { $0.name == name }, "\(name)")
            let ours = try #require(store.variables.first { $0.name == name }, "\(name)")
            #expect(ours.vendor == theirs.vendor && ours.attributes == theirs.attributes, "\(name)")
            // The owner of a signature list, 16 bytes from offset 28, is not evaluated.
            if name == "SecureBootEnable" {
                #expect(ours.value == theirs.value)
            } else {
                #expect(ours.value[..<28] == theirs.value[..<28] && ours.value[44...] == theirs.value[44...], "\(name)")
            }
        }
    }

    @Test func malformedCertificatesAndStoresAreRefused() throws {
        let pem = String(decoding: try FileSystem.read(Self.snakeoil), as: UTF8.self)
        for text in [
            "", "key", pem.replacing("-----END CERTIFICATE-----", with: ""), pem.replacing("M", with: "*"),
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        ] { #expect(throws: PEM.Malformed.self) { try PEM.certificate(Array(text.utf8)) } }
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")] {
            #expect(PEM.base64(text) == Array(bytes.utf8))
        }
        #expect(PEM.base64("Zg=") == nil && PEM.base64("Z===") == nil)
        #expect(throws: VariableStore.Malformed.self) { try VariableStore([UInt8](repeating: 0xFF, count: 4096)) }
        var full = try VariableStore(FileSystem.read(OVMF.find(secureBoot: false).variables))
        #expect(throws: VariableStore.Malformed.self) {
            try full.enroll(certificate: [UInt8](repeating: 0x30, count: 100_000))
        }
    }

    // MARK: - Accelerator

    /// One slow attempt must not decide until the host reboots.
    @Test func aFailedTryOfKVMIsNotRemembered() throws {
        let cache = Cache(root: "\(folder)/cache")
        func working(_ script: String) throws -> Accelerator {
            let qemu = "\(folder)/qemu"
            try FileSystem.replace(qemu, with: "#!/bin/sh\n\(script)\n", mode: 0o755)
            return try Accelerator.working(qemu: qemu, kernel: "none", cache: cache, device: "/dev/null", deadline: 1)
        }
        #expect(try working("exec sleep 20") == .tcg)
        #expect(try working("echo Kernel panic - not syncing") == .kvm)
        // Now it is known.
        #expect(try working("exec sleep 20") == .kvm)
        #expect(
            try Accelerator.working(qemu: "none", kernel: "none", cache: cache, device: "\(folder)/none") == .tcg)
    }

    // MARK: - Hardware profiles

    private func profile(_ machine: String) throws -> HardwareProfile {
        try FileSystem.makeDirectory("\(folder)/profiles")
        try FileSystem.replace(
            "\(folder)/profiles/third.yaml", with: "summary: x\nkernel: linux-image-1\nboot-modules: []\n\(machine)")
        let name = Located(
            value: "third", position: SourcePosition(file: "box.yaml", line: 1, column: 1), path: "profiles[0]")
        return try HardwareProfile.read(name, folder: folder)
    }

    /// The profile's `machine` decides, and not its name.
    @Test func aProfileChoosesTheMachinesDevices() throws {
        #expect(try profile("").machine == VirtualMachine.Hardware(disk: .virtio, network: .virtio))
        let third = try profile("machine: {disk: sata, network: rtl8139}\n").machine
        var machine = VirtualMachine(
            firmware: .direct(kernel: "k", initramfs: "i", commandLine: ""),
            disks: [.init(path: "disk", bus: third.disk)])
        machine.networks = [.init(.user(forwards: [], restricted: true), card: third.network.rawValue)]
        let arguments = try machine.arguments()
        #expect(arguments.contains("ide-hd,drive=disk0"))
        #expect(arguments.contains { $0.hasPrefix("rtl8139,netdev=net0") })
        do {
            _ = try profile("machine: {disk: scsi, card: e1000}\n")
            Issue.record("unknown devices were accepted")
        } catch let error as InvalidDocument {
            #expect(Set(error.problems.map(\.path)) == ["machine.disk", "machine.card"])
            #expect(error.problems.allSatisfy { $0.position.line == 4 })
        }
    }

    @Test func aGreetingNeedsAServiceOfTheBox() throws {
        func problems(_ text: String) throws -> [String] {
            let list = ProblemList()
            _ = Proof.shape.read(try YAML.read(Array(text.utf8), file: "box.yaml"), path: "proofs[0]", into: list)
            return list.problems.map(\.path)
        }
        #expect(try problems("{name: a, from: lan, tcp: 22, greeting: SSH-2.0}") == [])
        #expect(try problems("{name: a, from: lan, to: wan, tcp: 22, greeting: SSH-2.0}") == ["proofs[0].greeting"])
        #expect(try problems("{name: a, from: lan, udp: 22, greeting: SSH-2.0}") == ["proofs[0].greeting"])
        #expect(try problems("{name: a, from: lan}") == ["proofs[0]"])
        #expect(try problems("{name: a, from: lan, tcp: 1, ping: true}") == ["proofs[0]"])
    }

    // MARK: - Probe packets

    /// scapy is the oracle: rebuilt without lengths and checksums, each frame is the same.
    @Test func probePacketsAreWellFormed() throws {
        var lines: [String] = []
        for family in IPAddress.Family.allCases {
            let isIPv4 = family == .ipv4
            let route = ProbePacket.Route(
                sourceMAC: try #require(MACAddress("52:54:00:00:01:01")),
                boxMAC: try #require(MACAddress("52:54:00:00:00:01")),
                sources: [try #require(IPAddress(isIPv4 ? "192.168.1.10" : "fd00:1::10"))],
                destination: try #require(IPAddress(isIPv4 ? "203.0.113.1" : "2001:db8:1::1")),
                foreignSources: [try #require(IPAddress(isIPv4 ? "198.51.100.66" : "2001:db8:bad::66"))])
            for kind in ProbePacket.all where kind.family == family {
                for place in [Proof.Endpoint.lan, .wan] {
                    for frame in kind.frames(from: place, route) {
                        let mark = ProbePacket.Mark(in: frame[...])
                        #expect(mark == ProbePacket.Mark(kind: kind, origin: place))
                        let hex = frame.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
                        lines.append("\(kind.form.rawValue) \(hex)")
                    }
                }
            }
        }
        let program = """
            import sys
            from scapy.all import *
            for line in open(sys.argv[1]):
                form, text = line.split()
                raw = bytes.fromhex(text)
                frame = Ether(raw)
                if form == "fragments":
                    assert frame.haslayer(IPv6ExtHdrFragment) or frame[IP].flags.MF or frame[IP].frag, line
                layer = frame
                while layer and not isinstance(layer, NoPayload):
                    # A fragment's UDP checksum is that of the whole datagram.
                    fields = [] if isinstance(layer, UDP) and form == "fragments" else ["chksum", "cksum", "len", "plen"]
                    for name in fields:
                        if name in layer.fields: delattr(layer, name)
                    layer = layer.payload
                assert raw == bytes(Ether(bytes(frame))), (line, bytes(frame).hex())
            whole = defragment([Ether(bytes.fromhex(l.split()[1])) for l in open(sys.argv[1])
                if l.startswith("fragments") and l.split()[1][24:28] == "0800"][:2])
            packet = whole[0] if len(whole) else None
            sum = packet[UDP].chksum
            del packet[UDP].chksum
            assert IP(bytes(packet[IP]))[UDP].chksum == sum
            print(sum is not None)
            """
        try FileSystem.replace("\(folder)/frames", with: lines.map { $0 + "\n" }.joined())
        let result = try Command("/usr/bin/python3", ["-c", program, "\(folder)/frames"]).run()
        #expect(result.status == 0 && result.text.contains("True"), "\(result.text)\(result.errorText)")
        #expect(lines.count == 2 * 2 * 9 - 0, "\(lines.count)")
    }

    @Test func aSignatureOfAProgramIsFound() throws {
        #expect(!PortableExecutable.isSigned([]) && !PortableExecutable.isSigned([UInt8](repeating: 0, count: 4096)))
        // A header with a certificate table: DOS stub, PE at 64, PE32+, directory 4 with a size.
        var program = [UInt8](repeating: 0, count: 1024)
        program[0x3C] = 64
        program.replaceSubrange(64..<68, with: [0x50, 0x45, 0, 0])
        program.replaceSubrange(88..<90, with: [0x0B, 0x02])
        #expect(!PortableExecutable.isSigned(program))
        program[64 + 24 + 112 + 36] = 8
        #expect(PortableExecutable.isSigned(program))
    }
}
