import Documents
import Files

/// A run's checks as JUnit XML, which CI systems such as Jenkins and GitLab read.
public struct JUnitReport: Sendable {
    private struct Case: Sendable {
        var group: String
        var check: ProofRecord.Check
    }

    private let suite: String
    private let started: Int
    private var cases: [Case] = []

    /// - Parameters:
    ///   - suite: such as `branch-office virtio`.
    ///   - started: seconds since 1970.
    public init(suite: String, started: Int) { (self.suite, self.started) = (suite, started) }

    /// A case for each control, each proof and each kind of probe packets.
    public init(_ record: ProofRecord) {
        self.init(suite: "\(record.image) \(record.version) \(record.profile)", started: record.started)
        for check in record.controls { add(check, group: "controls") }
        for check in record.proofs { add(check, group: "proofs") }
        for row in record.traffic {
            let isGood = row.leaked == 0 && row.sent > 0
            add(
                ProofRecord.Check(
                    row.label, isGood ? .passed : .failed,
                    seen: "\(row.sent) sent, \(row.arrived) arrived, \(row.leaked) leaked"),
                group: "traffic")
        }
        if record.missedFrames > 0 {
            add(
                ProofRecord.Check("frames observed", .failed, seen: "\(record.missedFrames) frames were not observed"),
                group: "traffic")
        }
    }

    public mutating func add(_ check: ProofRecord.Check, group: String) {
        cases.append(Case(group: group, check: check))
    }

    public var xml: String {
        func count(_ status: ProofRecord.Check.Status) -> Int { cases.filter { $0.check.status == status }.count }
        let total = Self.seconds(cases.reduce(0) { $0 + $1.check.milliseconds })
        let numbers = "tests=\"\(cases.count)\" failures=\"\(count(.failed))\" skipped=\"\(count(.skipped))\""
        var lines = [
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "<testsuites>",
            "  <testsuite name=\"\(Self.escaped(suite))\" \(numbers) errors=\"0\" time=\"\(total)\""
                + " timestamp=\"\(UTC.text(of: started).dropLast())\">",
        ]
        for item in cases {
            let check = item.check
            let head =
                "    <testcase classname=\"\(Self.escaped("\(suite).\(item.group)"))\""
                + " name=\"\(Self.escaped(check.name))\" time=\"\(Self.seconds(check.milliseconds))\""
            switch check.status {
            case .passed: lines.append("\(head)><system-out>\(Self.escaped(check.seen))</system-out></testcase>")
            case .failed: lines.append("\(head)><failure message=\"\(Self.escaped(check.seen))\"/></testcase>")
            case .skipped: lines.append("\(head)><skipped message=\"\(Self.escaped(check.seen))\"/></testcase>")
            }
        }
        return (lines + ["  </testsuite>", "</testsuites>"]).joined(separator: "\n") + "\n"
    }

    private static func seconds(_ milliseconds: Int) -> String {
        let fraction = String(milliseconds % 1000)
        return "\(milliseconds / 1000)." + String(repeating: "0", count: 3 - fraction.count) + fraction
    }

    /// XML 1.0 does not allow most control characters, not even escaped.
    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "\n", "\t": result += " "
            default: if scalar.value >= 0x20 { result.unicodeScalars.append(scalar) }
            }
        }
        return result
    }
}
