import Documents

/// What `apt-config dump` prints: names without regard to case, and values (apt.conf(5)).
struct AptConfiguration: Sendable, Hashable {
    /// Values by name in lower case.
    private(set) var values: [String: String] = [:]

    /// - Parameter text: lines of `NAME "VALUE";`.
    init(dump text: String) {
        for line in text.split(separator: "\n") {
            guard let blank = line.firstRange(of: " \""), line.hasSuffix("\";") else { continue }
            let value = line[blank.upperBound...].dropLast(2)
            if !value.isEmpty { values[line[..<blank.lowerBound].lowercased()] = String(value) }
        }
    }

    /// An option of https for a host. apt reads `Acquire::https::HOST::OPTION`, while
    /// apt-transport-https(1) documents `Acquire::https::OPTION::HOST`; options of http are the
    /// defaults of https.
    func https(_ option: String, host: String) -> String? {
        let (option, host) = (option.lowercased(), host.lowercased())
        let names = [
            "https::\(host)::\(option)", "https::\(option)::\(host)", "http::\(host)::\(option)",
            "http::\(option)::\(host)", "https::\(option)", "http::\(option)",
        ]
        return names.lazy.compactMap { values["acquire::\($0)"] }.first
    }

    /// As apt reads a boolean (apt-pkg's StringToBool).
    static func boolean(_ text: String?) -> Bool? {
        switch text?.lowercased() {
        case "no", "false", "without", "off", "disable", "0": false
        case "yes", "true", "with", "on", "enable", "1": true
        default: nil
        }
    }
}
