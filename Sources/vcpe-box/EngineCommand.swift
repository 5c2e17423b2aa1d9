import Engine

/// `vcpe-engine`: PID 1 starts it, with nothing to say, `vcpe-updater` with `check`; a test names other places.
enum EngineCommand {
    static func run(_ arguments: [String]) -> Int32 {
        var places = Places()
        switch arguments.first {
        // Processes of the engine on a box that runs from a stick.
        case "install" where arguments.count == 2: return StickProcess.install(arguments[1])
        case "install-disk" where arguments.count == 3:
            return StickProcess.install(name: arguments[1], sequence: arguments[2])
        case "offer": return StickProcess.offer()
        case StickReader.verb: return StickReader.run()
        default: break
        }
        let verb = ["check", "preview"].first { $0 == arguments.first }
        var rest = arguments.dropFirst(verb == nil ? 0 : 1)
        while let option = rest.popFirst() {
            guard let value = rest.popFirst() else { return usage(option) }
            switch option {
            case "--run": (places.run, places.initSocket) = (value, "\(value)/init.sock")
            case "--data": places.data = value
            case "--plugins": places.plugins = value
            case "--factory-site": places.factorySite = value
            case "--modprobe": places.modprobe = value
            case "--logs": places.logs = value
            case "--devices": places.devices = value
            case "--firmware-site": (places.firmwareSite, places.firmwareSignature) = (value, "\(value).sig")
            case "--site-keys": places.siteKeys = value
            case "--image": places.image = value
            default: return usage(option)
            }
        }
        if verb == "check" { return check(places) }
        if verb == "preview" { return Previews.run(places) }
        do {
            try Engine(places: places).run()
        } catch {
            Log.say("the engine can't go on: \(error)")
            return 1
        }
    }

    /// Says whether this release could go on with what the box follows; `vcpe-updater` asks before it is started.
    private static func check(_ places: Places) -> Int32 {
        do {
            for line in try SiteCheck.run(places) { Log.say(line) }
            return 0
        } catch {
            Log.say("\(error)")
            return 1
        }
    }

    private static func usage(_ option: String) -> Int32 {
        let known = [
            "--run", "--data", "--plugins", "--factory-site", "--modprobe", "--logs", "--devices", "--firmware-site",
            "--site-keys", "--image",
        ]
        Log.say("\(option): allowed are \(known.joined(separator: ", ")), each with a path")
        return 64
    }
}
