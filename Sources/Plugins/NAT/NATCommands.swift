import PluginKit

extension NAT {
    public static func show(
        _ command: String, _ configuration: NATConfiguration, input: CommandInput, into output: inout ShowOutput
    ) {
        switch command {
        case "who": showWho(configuration, input, &output)
        case "block": showBlock(configuration, input, &output)
        default: showCarriers(configuration, input, &output)
        }
    }

    private static func address(_ input: CommandInput, _ output: inout ShowOutput) -> IPAddress? {
        let text = input.arguments["address"] ?? ""
        let address = IPAddress(text)
        if address == nil { output.say(.error, path: "", "\"\(text)\" is no address", hint: "203.0.113.7 is") }
        return address
    }

    /// Computed, not looked up: nothing was written down.
    private static func showWho(
        _ configuration: NATConfiguration, _ input: CommandInput, _ output: inout ShowOutput
    ) {
        guard let address = address(input, &output) else { return }
        let text = input.arguments["port"] ?? ""
        guard let port = Int(text), (1...65_535).contains(port) else {
            return output.say(.error, path: "", "\"\(text)\" is no port", hint: "1 to 65535")
        }
        output.columns = ["subscriber", "translation", "address", "ports"]
        for carrier in configuration.carriers.map(\.value) {
            guard let who = carrier.subscriber(of: address, port: port), let block = carrier.block(of: who) else {
                continue
            }
            output.add(
                .text(who.description), .text(carrier.name), .text(block.address.description),
                .text("\(block.ports.lowerBound)-\(block.ports.upperBound)"))
        }
        if output.rows.isEmpty {
            output.say(
                .error, path: "", "port \(port) of \(address) is no subscriber's",
                hint: configuration.carriers.isEmpty
                    ? "the site has no carrier-grade translation"
                    : "pools are "
                        + configuration.carriers.flatMap(\.value.pool).map(\.value.description).joined(separator: ", "))
        }
    }

    private static func showBlock(
        _ configuration: NATConfiguration, _ input: CommandInput, _ output: inout ShowOutput
    ) {
        guard let address = address(input, &output) else { return }
        output.columns = ["subscriber", "translation", "address", "ports"]
        for carrier in configuration.carriers.map(\.value) {
            guard let block = carrier.block(of: address) else { continue }
            output.add(
                .text(address.description), .text(carrier.name), .text(block.address.description),
                .text("\(block.ports.lowerBound)-\(block.ports.upperBound)"))
        }
        if output.rows.isEmpty { output.say(.error, path: "", "\(address) is no subscriber") }
    }

    private static func showCarriers(
        _ configuration: NATConfiguration, _ input: CommandInput, _ output: inout ShowOutput
    ) {
        output.columns = [
            "translation", "subscribers", "ports each", "mappings made", "inbound", "refused", "tried again",
        ]
        for carrier in configuration.carriers.map(\.value) {
            func counted(_ what: String) -> JSON {
                .integer(input.counters["nat.carrier.\(carrier.name).\(what)"]?.packets ?? 0)
            }
            output.add(
                .text(carrier.name), .integer(carrier.subscriberCount), .integer(carrier.blockSize),
                counted("mappings"),
                counted("inbound"), counted("refused"), counted("collisions"))
        }
    }
}
