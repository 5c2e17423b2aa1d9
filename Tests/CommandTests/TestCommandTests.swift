import Files
import Processes
import Testing

extension CommandTests {
    /// CI reads the report also when the run could not begin, and no earlier run's.
    @Test func aTestThatCannotRunIsAFailedCase() throws {
        let images = try definition(
            Self.good + "proofs: [{name: a, from: wan, to: lan, tcp: 22, expect: dropped}]\n")
        let report = "\(folder)/report.xml"
        try FileSystem.replace(report, with: "<testsuites/>\n")
        let words = ["--images", images, "--output", "\(folder)/out", "--junit", report]
        let result = try Command(try Self.program, ["test", "box"] + words, environment: ["HOME": folder]).run()
        #expect(result.status == 1 && result.errorText.contains("try: vcpe build box"), "\(result.errorText)")
        let text = String(decoding: try FileSystem.read(report), as: UTF8.self)
        #expect(text.contains("tests=\"1\" failures=\"1\"") && text.contains("box is not built in"), "\(text)")
    }

    @Test func optionsOfTestsAreChecked() throws {
        for words in [["--timeout", "0"], ["--timeout", "soon"], ["--accelerator", "warp"]] {
            let result = try Command(try Self.program, ["test", "box"] + words, environment: ["HOME": folder]).run()
            #expect(result.status == 64 && result.errorText.contains(words[0]), "\(words): \(result.errorText)")
        }
        #expect(try vcpe("run", "box", "--accelerator", "warp").status == 64)
    }
}
