import Documents
import Engine
import Files
import PluginKit

/// Verbs that `vcpe-updater` answers.
enum UpgradeVerbs {
    static let all: [Verb] = [
        Verb(
            name: "upgrade", group: .upgrade, usage: "upgrade WHAT",
            summary: "another release for this box: status, check, download, install, cancel, history, loader",
            details: """
                  status    which release runs, which one is installed, why it waits, and when this box looks by itself
                  check     what the channel offers, and what that would cost
                  download  the newest release, or --to VERSION, without having it started: install finds it on the box. It takes the
                            place of the release before the one that runs
                  install   the newest release, or --to VERSION, into the slot that does not run; what runs is not touched
                  cancel    forget an installed release that was not started yet
                  history   upgrades of this box, newest first
                  loader    have the firmware try the boot loader that this release brings, at the next start and by a boot entry of its own; it
                            takes the place of the one that is there once the box came up by it. One that falls may need somebody who
                            switches the box off and on

                A new release is started three times at most. It is good when all probes of the document have held for the site's time, and
                every block of it was read; else the box comes back with the old one and its configuration.
                """,
            words: 1...1,
            options: [
                .init(name: "--to", value: "VERSION", summary: "for download and install: this one, not the newest"),
                .init(name: "--reboot", value: nil, summary: "for install and loader: start it at once"),
            ]
        ) { call in
            let names = ["status", "check", "download", "install", "cancel", "history", "loader"]
            guard names.contains(call.words[0]) else {
                let meant = didYouMean(call.words[0], among: names).map { "did you mean \($0)? " } ?? ""
                throw WrongUsage(
                    "upgrade knows no \(call.words[0]); \(meant)it knows \(names.joined(separator: ", "))")
            }
            var words = call.words
            if let version = call["--to"] { words += ["--to", version] }
            if call.has("--reboot") { words.append("--reboot") }
            try ask(words, call)
        },
        Verb(
            name: "slots", group: .upgrade, usage: "slots",
            summary: "both releases on the disk, and which one would be started"
        ) { call in try ask(["slots"], call) },
    ]

    private static func ask(_ words: [String], _ call: Invocation) throws {
        let socket = "/run/vcpe/upgrade/socket"
        guard FileSystem.exists(socket) else {
            throw EngineError(
                "nobody brings releases to this box: its site has no upgrade: {repository: …}, or its image no plugin upgrade"
            )
        }
        let answer = try EngineClient(socket: socket).answer(to: ["words": .texts(words)])
        if call.asJSON { return Terminal.say((answer["answer"] ?? .null).pretty) }
        for line in answer["lines"]?.list ?? [] { Terminal.line(line.text ?? "") }
    }
}
