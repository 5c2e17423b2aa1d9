import Files

/// Debian's names of processor architectures, from the header field that the firmware checks.
enum Architecture {
    /// `Machine` of the COFF header (UEFI specification 2.10, section 2.1.1; PE format, "Machine
    /// Types").
    private static let names: [Int: String] = [
        0x8664: "amd64", 0xAA64: "arm64", 0x014C: "i386", 0x01C2: "armhf", 0x5064: "riscv64", 0x6264: "loong64",
    ]

    /// The architecture that a UKI is for.
    ///
    /// - Throws: ``ReleaseFailure`` for a file that is not a PE file, and for a machine type
    ///   without a Debian name.
    static func name(ofUKI path: String) throws -> String {
        let file = try File(path)
        func number(_ bytes: ArraySlice<UInt8>) -> Int { bytes.reversed().reduce(0) { $0 << 8 | Int($1) } }
        let dos = try file.read(64, at: 0)
        guard dos.count == 64, dos.starts(with: Array("MZ".utf8)) else {
            throw ReleaseFailure("\(path): not a PE file", hint: "vcpe build", path: path)
        }
        let header = try file.read(6, at: number(dos[60..<64]))
        guard header.count == 6, header.starts(with: Array("PE\0\0".utf8)) else {
            throw ReleaseFailure(
                "\(path): no PE header at the offset in the DOS header", hint: "vcpe build", path: path)
        }
        let machine = number(header[4..<6])
        guard let name = names[machine] else {
            throw ReleaseFailure(
                "\(path): the machine type is 0x\(String(machine, radix: 16)), allowed are "
                    + names.values.sorted().joined(separator: ", "), path: path)
        }
        return name
    }
}
