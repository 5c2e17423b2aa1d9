import Documents
import Files
import Glibc
import Netlink
import Planning
import PluginKit

/// What becomes of a commit's services while it is pending.
extension HealthMonitor {
    /// The services as PID 1 reports them; none without a PID 1 of ours.
    var presentServices: [InitClient.Service] {
        FileSystem.exists(places.initSocket) ? (try? places.pidOne.services()) ?? [] : []
    }

    /// Why the commit fails for its services; nil where it does not, or not yet.
    func serviceFailure(_ watch: inout ServiceWatch, _ site: Node) -> String? {
        guard let due = watch.due, Uptime.milliseconds >= due else { return nil }
        watch.keep(applier.applied.plan)
        let failures = watch.take(presentServices, now: Uptime.milliseconds)
        let mayFail = failures.isEmpty ? [] : absentNames
        for failure in failures {
            guard let service = watch.resource(failure.name) else { continue }
            guard !isExcused(service, lacking: mayFail) else {
                watch.excuse(failure.name)
                continue
            }
            let lines = places.serviceLogs.lastLines(of: failure.name, since: watch.mark(of: failure.name))
            return text(of: failure, in: site, lines: lines)
        }
        return nil
    }

    /// Planned links that a service makes and that are not there.
    private var absentNames: Set<String> {
        let external = Set(applier.applied.plan.values(LinkResource.self).filter(\.isExternal).map(\.name))
        guard !external.isEmpty, let links = try? routes.links() else { return [] }
        return external.subtracting(links.map(\.name))
    }

    /// A service whose network namespace is absent, or whose command names an absent link, waits for it.
    private func isExcused(_ service: ServiceResource, lacking links: Set<String>) -> Bool {
        if let network = service.unit.network, !FileSystem.exists("/run/netns/\(network)") { return true }
        return service.command.dropFirst().contains { word in
            word.split { "=,:@ ".contains($0) }.contains { links.contains(String($0)) }
        }
    }

    private func text(of failure: ServiceWatch.Failure, in site: Node, lines: [String]) -> String {
        var text = "the service \(failure.name)"
        if let planned = applier.applied.plan.resources[ResourceKey(ServiceResource.kind, failure.name)] {
            let (path, position) = planner.origin(of: planned, in: site)
            text += " of the plugin \(planned.plugin) (\(path), \(position))"
        }
        let reason = failure.reason.split(separator: " ")
        if let code = reason.last.flatMap({ Int32($0) }) {
            text += " \(reason.dropLast().joined(separator: " ")) \(ExitCode.text(code))"
        } else {
            text += failure.reason == "never ready" ? " was never ready" : ": \(failure.reason)"
        }
        text += failure.exits > 1 ? ", \(failure.exits) times in a row" : ""
        return text + (lines.isEmpty ? "; it logged nothing" : "; its last log lines are:" + Excerpt.text(lines))
    }
}
