import Documents
import Engine

/// Verbs of lists that are filled beside the configuration: they make no commit, and no rule is touched.
enum FeedVerbs {
    static let all: [Verb] = [
        Verb(
            name: "feeds", group: .feeds, usage: "feeds", summary: "the lists, and how much is in them"
        ) { call in
            try call.ask(["do": "feeds"]) { answer in
                let rows = (answer["feeds"]?.list ?? []).map { feed in
                    ["name", "planned", "members", "passing", "from"].map { feed[$0] ?? 0 }
                }
                Terminal.say(
                    TextTable(columns: ["name", "by the site", "members", "for a time", "from"], rows: rows).text)
            }
        },
        Verb(
            name: "feed", group: .feeds, usage: "feed NAME [DEED WHAT…]",
            summary: "what is in a list; puts in, takes out, or has it hold a file's lines",
            details: """
                DEED is add, remove or load; WHAT an address, a network, a range or a hardware address; of load, a file with one a line. What is put in with
                --for goes by itself. The packet filter has it at once; established connections go on.

                  vcpectl feed firewall.guests add 192.168.1.77 --for 4h
                  vcpectl feed firewall.blocklist load bad-networks.txt
                """,
            words: 1...1000,
            options: [.init(name: "--for", value: "TIME", summary: "90s, 10m, 4h: after that it goes by itself")]
        ) { call in
            let name = call.words[0]
            guard call.words.count > 1 else {
                return try call.ask(["do": "feed", "name": .text(name)]) { answer in
                    let rows = (answer["members"]?.list ?? []).map { member in
                        [
                            member["member"] ?? "", member["from"] ?? "",
                            member["expires"]?.integer.map { .text("\($0) s") } ?? "",
                        ] as [JSON]
                    }
                    Terminal.say(TextTable(columns: ["member", "from", "expires"], rows: rows).text)
                }
            }
            let (deed, what) = (call.words[1], call.words.dropFirst(2))
            guard ["add", "remove", "load"].contains(deed), !what.isEmpty, deed != "load" || what.count == 1 else {
                throw WrongUsage("add, remove and load, and what\nvcpectl help feed")
            }
            let text =
                deed == "load"
                ? try Terminal.read(what[what.startIndex], for: "feed-change", limit: EngineClient.largestRequest / 2)
                : what.joined(separator: "\n")
            guard text.utf8.count <= EngineClient.largestRequest / 2 else {
                throw EngineError(
                    "\(what.joined()) has \(text.utf8.count) bytes, and \(EngineClient.largestRequest / 2) are allowed: "
                        + "networks instead of their addresses make a list shorter")
            }
            var request: [String: JSON] = [
                "do": "feed-change", "name": .text(name), "deed": .text(deed), "members": .text(text),
            ]
            if let time = call["--for"] { request["seconds"] = .integer(try Invocation.seconds(time)) }
            try call.ask(.object(request)) { answer in
                Terminal.line("\(name) has \(answer["members"]?.integer ?? 0) members beside the site's")
            }
        },
    ]
}
