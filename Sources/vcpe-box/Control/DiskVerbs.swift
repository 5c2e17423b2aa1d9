import Documents
import Engine
import Files
import Glibc
import Terminals

/// Verbs of a box that was started from a stick.
enum DiskVerbs {
    static let all: [Verb] = [
        Verb(
            name: "disks", group: .upgrade, usage: "disks",
            summary: "on a box that runs from a stick: the disks that it could be installed onto"
        ) { call in
            try call.ask(["do": "disks"]) { answer in
                let rows = (answer["disks"]?.list ?? []).map { disk -> [JSON] in
                    let size = Size.text(disk["bytes"]?.integer ?? 0)
                    return [
                        disk["name"] ?? "", disk["model"] ?? "", disk["serial"] ?? "", .text(size), disk["state"] ?? "",
                    ]
                }
                Terminal.say(TextTable(columns: ["disk", "model", "serial", "size", "state"], rows: rows).text)
                if let says = answer["says"]?.text { Terminal.line(says) }
            }
        },
        Verb(
            name: "install-disk", group: .upgrade, usage: "install-disk DISK",
            summary: "write the stick that the box runs from onto a disk of its own",
            details: """
                DISK is a name of vcpectl disks, or a serial number. All that is on it is lost. What was written is read back and compared;
                vcpectl disks says how far it is. Then pull the stick out: the box restarts from its disk.
                """,
            words: 1...1, options: [.init(name: "--yes", value: nil, summary: "don't ask")]
        ) { call in
            let name = call.words[0]
            if !call.has("--yes") {
                guard isatty(0) == 1 else { throw WrongUsage("nobody is there to ask: --yes, if you are sure") }
                let disk = try EngineClient().answer(to: ["do": "disks", "disk": .text(name)])["disks"]?.list?.first
                let words = [
                    disk?["model"]?.text ?? "", "serial \(disk?["serial"]?.text ?? "")",
                    Size.text(disk?["bytes"]?.integer ?? 0), disk?["state"]?.text ?? "",
                ]
                let question = "\(words.joined(separator: ", ")): all that is on it is lost. Type \(name) to go on: "
                Terminal.write(TerminalText.line(question))
                guard readLine() == name else { throw EngineError("not confirmed: nothing was written") }
            }
            try call.ask(["do": "install-disk", "disk": .text(name)]) { _ in
                Terminal.line("it is being written: vcpectl disks, and the consoles, say how far it is")
            }
        },
    ]
}
