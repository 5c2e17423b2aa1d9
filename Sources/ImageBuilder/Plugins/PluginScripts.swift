/// The programs of the template in languages that need no compiler.
extension PluginSkeleton {
    var python: String {
        """
        #!/usr/bin/python3 -IS
        # Writes a greeting to a file. A plugin of vcpe is a pure function: it reads and writes no files, and its
        # only clock is input["now"]. -I and -S leave out what this program does not need: half of the time
        # that Python takes to start.
        import json
        import os
        import sys

        VERBS = ("describe", "publish", "plan", "show", "act", "migrate")


        def diagnostic(severity, path, message, hint):
            return {"diagnostic": severity, "path": path, "message": message, "hint": hint}


        def problems(configuration):
            if not isinstance(configuration, dict):
                yield diagnostic("error", "", "found no mapping", "allowed is a mapping with greeting")
                return
            for key in configuration.keys() - {"greeting"}:
                yield diagnostic("error", key, "unknown key", "allowed is greeting")
            greeting = configuration.get("greeting")
            if not isinstance(greeting, str) or not greeting or "\\n" in greeting:
                yield diagnostic("error", "greeting", "found " + json.dumps(greeting), "allowed is a text of one line")


        def resources(configuration):
            folder = "/run/vcpe/\(name)"
            yield {"kind": "directory", "id": folder, "path": folder, "owner": "root", "mode": 0o755}
            path = folder + "/greeting"
            content = configuration["greeting"] + "\\n"
            yield {"kind": "file", "id": path, "path": path, "content": content, "owner": "root", "mode": 0o644}


        def answer(verb, given):
            configuration = given["configuration"]
            found = list(problems(configuration))
            if verb == "migrate":
                return [configuration]
            if verb == "show":
                return [{"columns": ["greeting"], "rows": [[configuration["greeting"]]]}]
            if found or verb != "plan":
                return found
            return resources(configuration)


        def line(value):
            return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


        def main():
            verb = sys.argv[1] if len(sys.argv) == 2 else ""
            if verb not in VERBS:
                sys.exit("\(name) is a plugin of vcpe: \(name) " + " | ".join(VERBS))
            if verb == "describe":
                with open(os.path.join(os.path.dirname(sys.argv[0]), "manifest.json"), encoding="utf-8") as file:
                    print(line(json.load(file)))
                return
            # The output is UTF-8, whatever the environment says, and sorted, so that equal plans are equal bytes.
            sys.stdout.reconfigure(encoding="utf-8")
            for text in sorted(map(line, answer(verb, json.loads(sys.stdin.buffer.read())))):
                print(text)


        main()

        """
    }

    var shell: String {
        """
        #!/bin/sh
        # Writes a greeting to a file: a plugin of vcpe in POSIX shell and jq. A plugin is a pure function: it reads and
        # writes no files of the box, and its only clock is the input's "now".
        folder=${0%/*}
        case "$1" in
        describe) exec jq --compact-output . "$folder/manifest.json" ;;
        publish | plan | show | act | migrate) exec jq --raw-output --arg verb "$1" --from-file "$folder/\(name).jq" ;;
        *)
            echo "\(name) is a plugin of vcpe: \(name) describe | publish | plan | show | act | migrate" >&2
            exit 64
            ;;
        esac

        """
    }

    var jq: String {
        """
        # Of one input to the lines of one answer. Keys and lines are sorted, so that equal plans are equal bytes.

        def line: walk(if type == "object" then to_entries | sort_by(.key) | from_entries else . end) | tojson;
        def problem(path; message; hint): {diagnostic: "error", path: path, message: message, hint: hint};

        def problems:
          if type != "object" then problem(""; "found \\(tojson)"; "allowed is a mapping with greeting")
          else
            (keys - ["greeting"] | .[] | problem(.; "unknown key"; "allowed is greeting")),
            (if .greeting | type == "string" and . != "" and (contains("\\n") | not) then empty
              else problem("greeting"; "found \\(.greeting | tojson)"; "allowed is a text of one line") end)
          end;

        def resources:
          "/run/vcpe/\(name)" as $folder |
          {kind: "directory", id: $folder, path: $folder, owner: "root", mode: 493},
          {kind: "file", id: "\\($folder)/greeting", path: "\\($folder)/greeting", content: "\\(.greeting)\\n", owner: "root",
            mode: 420};

        .configuration |
          if $verb == "migrate" then tojson
          elif $verb == "show" then {columns: ["greeting"], rows: [[.greeting]]} | line
          else
            [problems] as $found |
            (if $found != [] or $verb != "plan" then $found else [resources] end) | map(line) | sort[]
          end

        """
    }
}
