import ImageBuilder
import PluginKit
import Testing

/// The arguments of a command's case are checked against the manifest, as the box would send them.
@Suite struct CommandCaseTests {
    private static let manifest = PluginManifest(
        name: "doors", version: "1", summary: "Doors", key: "doors", yang: "doors.yang", resources: [],
        features: [.init("base")],
        commands: [
            .init(
                .act, "open", "Open a door",
                arguments: [.init("door", "Which"), .init("time", "How long", isOptional: true)])
        ])

    @Test(arguments: [
        (#"{"command": "open", "arguments": {"door": "front"}}"#, []),
        (#"{"command": "open", "arguments": {"door": "front", "time": "10m"}}"#, []),
        (#"{"configuration": {}}"#, []),
        (#"{"command": "open", "arguments": ["front"]}"#, ["arguments is not an object"]),
        (#"{"command": "open"}"#, ["the argument door is missing"]),
        (
            #"{"command": "open", "arguments": {"dor": "front", "time": 10}}"#,
            [
                "the argument door is missing", "the argument dor is not in the manifest",
                "the argument time is not a text",
            ]
        ),
    ])
    func argumentsAreThoseOfTheManifest(input: String, expected: [String]) throws {
        let found = PluginCheck.argumentFindings(try JSON.parse(input), Self.manifest)
        #expect(found.count == expected.count, "\(found)")
        for (found, expected) in zip(found, expected) { #expect(found.hasPrefix(expected), "\(found)") }
    }
}
