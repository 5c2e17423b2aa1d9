/// Extended attributes in readable form.
enum AttributeText {
    /// `security.capability` as getcap(8) prints it, such as `cap_net_raw=ep`; everything else as
    /// name and hexadecimal digits.
    static func text(_ name: String, _ value: [UInt8]) -> String {
        if name == FileCapabilities.attribute, let text = FileCapabilities.decode(value) { return text }
        return "\(name)=\(hex(value))"
    }
}
