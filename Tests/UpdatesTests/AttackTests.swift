import Documents
import Files
import Processes
import TestSupport
import Testing

/// Valid and hostile repositories of python-tuf, read by vcpe-tuf and by python-tuf's client.
@Suite struct AttackTests {
    private static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

    /// Cases that vcpe-tuf refuses and python-tuf accepts: a key under two identifiers counts once.
    private static let stricter = ["one_key_under_two_names"]

    @Test func bothClientsAcceptTheSameAndNothingForged() throws {
        let python = try PythonEnvironment("tuf", ["tuf==7.0.1", "securesystemslib[crypto]==1.6.0"])
        let script = "\(Self.repository)/Tests/UpdatesTests/attacks.py"
        let result = try Command(
            python.program("python"), [script, "\(Self.repository)/.build/debug/vcpe-tuf"]
        ).begin().finish(deadline: 240, limit: 1 << 22)
        #expect(result.status == 0, "\(result.errorText.suffix(2000))")
        var (taken, refused) = (0, 0)
        for line in result.text.split(separator: "\n") {
            let row = try JSON.parse(String(line))
            let name = row["case"]?.text ?? ""
            guard let must = row["must"]?.boolean else {
                Issue.record("\(row.line) \(result.errorText.suffix(2000))")
                continue
            }
            #expect(row["ours"]?.boolean == must, "\(row.line)")
            if must { taken += 1 } else { refused += 1 }
            // An error names what is refused, and why.
            if !must { #expect(row["said"]?.text?.contains(": ") == true, "\(row.line)") }
            if Self.stricter.contains(name) {
                #expect(row["peer"]?.boolean == true, "\(name): both refuse now")
                continue
            }
            #expect(row["peer"]?.boolean == must, "\(row.line)")
            #expect(row["trusted"] == row["peer-trusted"], "\(row.line)")
            func contents(_ who: String) -> [String] { row[who]?.list?.compactMap(\.text).sorted() ?? [] }
            #expect(contents("got") == contents("peer-got"), "\(row.line)")
        }
        #expect(taken > 15 && refused > 40)
        print(
            "\(taken) honest repositories taken, \(refused) hostile ones refused; python's client takes \(Self.stricter.count) of these"
        )
    }
}
