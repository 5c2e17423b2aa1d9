import Digests

/// OVMF's variables in flash: an EDK2 authenticated variable store
/// (`MdeModulePkg/Include/Guid/VariableFormat.h`) in a firmware volume (PI 1.8, volume 3, section
/// 3.2.1).
///
/// Debian's tool for such stores, `virt-fw-vars`, is not in Debian 12, and would be one more
/// dependency for four variables.
struct VariableStore {
    /// The error for an invalid store, or one without space.
    struct Malformed: Error, Sendable, Hashable, CustomStringConvertible {
        var description: String
    }

    struct Variable: Hashable {
        var name: String
        var vendor: [UInt8]
        var attributes: UInt32
        var value: [UInt8]
    }

    private(set) var bytes: [UInt8]
    /// From the first variable to the end of the store.
    private let area: Range<Int>

    /// EFI_GLOBAL_VARIABLE (UEFI 2.10, section 3.3).
    static let globalVariable = guid("8be4df61-93ca-11d2-aa0d-00e098032b8c")
    /// EFI_IMAGE_SECURITY_DATABASE_GUID (UEFI 2.10, section 32.4.1).
    static let imageSecurityDatabase = guid("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
    /// gEfiSecureBootEnableDisableGuid: EDK2's own switch
    /// (`SecurityPkg/Include/Guid/AuthenticatedVariableFormat.h`).
    static let secureBootEnableDisable = guid("f0a30bc7-af08-4556-99c4-001009c93a44")
    /// EFI_CERT_X509_GUID (UEFI 2.10, section 32.4.1).
    static let certX509 = guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
    /// gEfiAuthenticatedVariableGuid.
    private static let authenticatedVariables = guid("aaf32c78-947b-439a-a180-2e144ec37792")
    /// The owner in the signature lists. Firmware does not evaluate it.
    private static let owner = Array(SHA256.hash(Array("vcpe proofs".utf8)).bytes.prefix(16))

    /// EFI_VARIABLE_NON_VOLATILE and EFI_VARIABLE_BOOTSERVICE_ACCESS (UEFI 2.10, section 8.2).
    private static let bootServices: UInt32 = 0x3
    /// The same with EFI_VARIABLE_RUNTIME_ACCESS and
    /// EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS.
    private static let authenticated: UInt32 = 0x27
    /// Of a store header: GUID, size, format, state, reserved.
    private static let storeHeader = 28
    /// Of AUTHENTICATED_VARIABLE_HEADER.
    private static let variableHeader = 60
    private static let startOfVariable: UInt16 = 0x55AA
    /// VAR_ADDED.
    private static let added: UInt8 = 0x3F

    init(_ bytes: [UInt8]) throws(Malformed) {
        self.bytes = bytes
        // EFI_FIRMWARE_VOLUME_HEADER: signature at 40, length of the header at 48.
        guard bytes.count > 72, Array(bytes[40..<44]) == Array("_FVH".utf8) else {
            throw Malformed(description: "the variable store is not a firmware volume")
        }
        let begin = Int(Self.number(bytes[48..<50]))
        guard begin >= 72, begin + Self.storeHeader < bytes.count,
            Array(bytes[begin..<begin + 16]) == Self.authenticatedVariables
        else { throw Malformed(description: "the firmware volume has no authenticated variables") }
        let end = begin + Int(Self.number(bytes[begin + 16..<begin + 20]))
        guard end <= bytes.count, begin + Self.storeHeader <= end else {
            throw Malformed(description: "the variable store ends at \(end), the file at \(bytes.count)")
        }
        area = begin + Self.storeHeader..<end
    }

    /// Makes a certificate the only key of the platform: PK, KEK and db, with Secure Boot on.
    ///
    /// - Parameter certificate: X.509 in DER.
    mutating func enroll(certificate: [UInt8]) throws(Malformed) {
        // EFI_SIGNATURE_LIST with one EFI_SIGNATURE_DATA (UEFI 2.10, section 32.4.1).
        let size = 16 + certificate.count
        let list =
            Self.certX509 + Self.bytes(UInt32(28 + size)) + Self.bytes(UInt32(0)) + Self.bytes(UInt32(size))
            + Self.owner + certificate
        for (name, vendor) in [
            ("PK", Self.globalVariable), ("KEK", Self.globalVariable), ("db", Self.imageSecurityDatabase),
        ] {
            try add(Variable(name: name, vendor: vendor, attributes: Self.authenticated, value: list))
        }
        try add(
            Variable(
                name: "SecureBootEnable", vendor: Self.secureBootEnableDisable, attributes: Self.bootServices,
                value: [1]))
    }

    /// The variables that are in effect, in their order.
    var variables: [Variable] {
        var result: [Variable] = []
        var position = area.lowerBound
        while let (variable, state, end) = variable(at: position) {
            if state == Self.added { result.append(variable) }
            position = end
        }
        return result
    }

    private mutating func add(_ variable: Variable) throws(Malformed) {
        var position = area.lowerBound
        while let (_, _, end) = self.variable(at: position) { position = end }
        var name: [UInt8] = []
        for unit in Array(variable.name.utf16) + [0] { name += Self.bytes(unit) }
        var record = Self.bytes(Self.startOfVariable) + [Self.added, 0] + Self.bytes(variable.attributes)
        // A count and a time (EFI_TIME, 16 bytes) that any later update exceeds, and no key index.
        record += [UInt8](repeating: 0, count: 8 + 16 + 4)
        record += Self.bytes(UInt32(name.count)) + Self.bytes(UInt32(variable.value.count)) + variable.vendor
        record += name + variable.value
        guard position + record.count <= area.upperBound else {
            throw Malformed(description: "the variable store has no space for \(variable.name)")
        }
        bytes.replaceSubrange(position..<position + record.count, with: record)
    }

    /// The variable whose header is at a position; nil where none begins.
    private func variable(at position: Int) -> (variable: Variable, state: UInt8, end: Int)? {
        let body = position + Self.variableHeader
        guard body <= area.upperBound, Self.number(bytes[position..<position + 2]) == UInt64(Self.startOfVariable)
        else { return nil }
        func field(_ offset: Int) -> Int { Int(Self.number(bytes[position + offset..<position + offset + 4])) }
        let (nameSize, valueSize) = (field(36), field(40))
        guard nameSize >= 2, nameSize <= area.count, valueSize <= area.count,
            body + nameSize + valueSize <= area.upperBound
        else { return nil }
        let units = stride(from: body, to: body + nameSize - 2, by: 2).map {
            UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8
        }
        let value = Array(bytes[body + nameSize..<body + nameSize + valueSize])
        let variable = Variable(
            name: String(decoding: units, as: UTF16.self), vendor: Array(bytes[position + 44..<position + 60]),
            attributes: UInt32(field(4)), value: value)
        // Headers are aligned to four bytes.
        return (variable, bytes[position + 2], (body + nameSize + valueSize + 3) & ~3)
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian, Array.init)
    }

    /// From the usual notation to the bytes in memory: the first three groups are little-endian.
    static func guid(_ text: String) -> [UInt8] {
        text.split(separator: "-").enumerated().flatMap { i, group in
            let bytes = Hex.bytes(group) ?? []
            return i < 3 ? bytes.reversed() : bytes
        }
    }
}
