import Addresses
import Documents

/// How two spellings of one value become the same text: by the canonical forms of RFC 7950, section
/// 9, and of the types of RFC 6991, which modules define again under the same names.
enum CanonicalForm: Hashable, CaseIterable {
    case integer, address, prefix
    /// A text whose letters' case means nothing.
    case lowercase

    /// Nil for a type that has only one spelling of a value, or none that is known here.
    init?(type name: String) {
        switch name {
        case "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64": self = .integer
        case "ip-address", "ipv4-address", "ipv6-address", "ip-address-no-zone", "ipv4-address-no-zone",
            "ipv6-address-no-zone":
            self = .address
        case "ip-prefix", "ipv4-prefix", "ipv6-prefix": self = .prefix
        case "mac-address", "phys-address", "hex-string", "uuid", "domain-name": self = .lowercase
        default: return nil
        }
    }

    /// Nil for a text that is no value of the type.
    func canonical(_ text: String) -> String? {
        switch self {
        case .integer: Self.number(text).map { String($0) }
        case .address: IPAddress(text)?.description
        case .prefix: text.contains("/") ? IPPrefix(text)?.network.description : nil
        case .lowercase: text.lowercased()
        }
    }

    /// As YAML writes whole numbers (YAML 1.2.2, section 10.3.2): decimal, 0x and 0o.
    private static func number(_ text: String) -> Int? {
        let digits = text.dropFirst(2)
        if text.hasPrefix("0x"), digits.first?.isHexDigit == true { return Int(digits, radix: 16) }
        if text.hasPrefix("0o"), digits.first?.isNumber == true { return Int(digits, radix: 8) }
        return Int(text)
    }
}

extension Schema.Node {
    /// A value of this leaf in its canonical form.
    func canonical(_ text: String) -> String {
        if forms.isEmpty { return text }
        // Where both are allowed, an address is the prefix of one address.
        if forms.isSuperset(of: [.address, .prefix]), let prefix = IPPrefix(text) {
            return prefix.network.description
        }
        for form in CanonicalForm.allCases where forms.contains(form) {
            if let canonical = form.canonical(text) { return canonical }
        }
        return text
    }
}
