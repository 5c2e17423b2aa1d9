import Engine
import Glibc
import Plugins
import PluginKit

// One executable that is engine, operator's command and plugins, by the name it is called: the Swift runtime is on the
// box once.

let arguments = Array(CommandLine.arguments.dropFirst())
let calledAs = CommandLine.arguments.first.map { $0.split(separator: "/").last.map(String.init) ?? $0 } ?? ""

switch calledAs {
case "vcpe-engine": exit(EngineCommand.run(arguments))
case "vcpectl": exit(ControlCommand.run(arguments))
// As login(1) and sshd start somebody's shell.
case "-vcpectl": exit(Shell.run(arguments))
case "vcpe-report": exit(FactReporting.run(arguments))
case "report-dhcpcd", "report-pppd-up", "report-pppd-down", "report-charon": exit(FactReporting.run(as: calledAs))
case "resolve-names": exit(NameResolution.run(arguments))
case "network": exit(PluginProgram.run(Network.self, arguments))
case "firewall": exit(PluginProgram.run(Firewall.self, arguments))
case "nat": exit(PluginProgram.run(NAT.self, arguments))
case "lan": exit(PluginProgram.run(LAN.self, arguments))
case "system": exit(PluginProgram.run(System.self, arguments))
case "upgrade": exit(PluginProgram.run(Upgrade.self, arguments))
default:
    Log.say(
        "\(calledAs) is none of vcpe-engine, vcpectl, vcpe-report, report-dhcpcd, report-pppd-up, report-pppd-down, report-charon, "
            + "resolve-names, network, firewall, nat, lan, system, upgrade"
    )
    exit(64)
}
