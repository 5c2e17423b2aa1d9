import Callers
import Glibc
import Units

/// All services, and the order among them.
struct ServiceTable {
    private(set) var services: [SupervisedService] = []
    /// Messages to syslog from processes of no service.
    private var others = ServiceLog(SystemLog.others)

    /// Reads the units anew: what is gone is stopped, what changed is started anew, what is new is
    /// started. A unit that can't be read is not gone: its service stays as it is.
    ///
    /// - Returns: what is wrong with units that can't be used.
    mutating func reload() -> [Failure] {
        var units: [Unit]
        var problems: [Failure]
        do {
            let read = try UnitFolders.read()
            (units, problems) = (read.units + pending.filter { read.broken.contains($0.name) }, read.problems)
        } catch {
            return [error]
        }
        problems += breakCircles(units)
        for i in services.indices.reversed() {
            guard let unit = units.first(where: { $0.name == services[i].unit.name }) else {
                if services[i].isAlive {
                    services[i].stop(then: .replaced)
                } else {
                    services.remove(at: i)
                }
                continue
            }
            if unit == services[i].unit { continue }
            if services[i].isAlive {
                // It comes back by its new unit when the old process has ended.
                services[i].stop(then: .replaced)
            } else {
                services[i] = SupervisedService(unit)
            }
        }
        pending = units
        adopt()
        return problems
    }

    /// The units of the last reload: those whose old process still ends come in their turn.
    private var pending: [Unit] = []

    /// Takes in units for which no old process runs any more.
    private mutating func adopt() {
        for unit in pending {
            guard let i = services.firstIndex(where: { $0.unit.name == unit.name }) else {
                services.append(SupervisedService(unit))
                continue
            }
            if services[i].isAlive { continue }
            // Also when the unit is once more what it was: it may have been another one in between.
            if services[i].unit != unit || services[i].state == .replaced { services[i] = SupervisedService(unit) }
        }
        services.removeAll { $0.state == .replaced }
    }

    /// The services that each one waits for: its unit's, without circles.
    private var order: [String: [String]] = [:]

    private func after(_ unit: Unit) -> [String] { order[unit.name] ?? unit.after }

    /// Services that wait for each other in a circle would wait for ever.
    private mutating func breakCircles(_ units: [Unit]) -> [Failure] {
        var problems: [Failure] = []
        var done: Set<String> = []
        order = Dictionary(units.map { ($0.name, $0.after) }, uniquingKeysWith: { first, _ in first })
        func reaches(_ name: String, _ target: String, _ seen: inout Set<String>) -> Bool {
            guard seen.insert(name).inserted, let after = order[name] else { return false }
            return after.contains(target) || after.contains { reaches($0, target, &seen) }
        }
        for unit in units {
            order[unit.name] = unit.after.filter { other in
                var seen: Set<String> = []
                let isCircle = other == unit.name || reaches(other, unit.name, &seen)
                guard isCircle, !done.contains(other) else { return true }
                problems.append(Failure("unit \(unit.name): it and \(other) wait for each other: it doesn't wait"))
                return false
            }
            done.insert(unit.name)
        }
        return problems
    }

    // MARK: - Living

    /// Does what is due, and starts one service that waits for no other any more: a start may take
    /// its time, and PID 1 has other things to do in between.
    mutating func step() {
        for i in services.indices { services[i].check() }
        if let i = next { services[i].start() }
    }

    /// The next one that can be started.
    private var next: Int? { services.firstIndex { $0.state == .waiting && isFree($0) } }

    /// True when ``step()`` has one to start.
    var hasNext: Bool { next != nil }

    /// True when all services that it waits for are ready; it waits for none that is absent or marked
    /// failed.
    private func isFree(_ service: SupervisedService) -> Bool {
        after(service.unit).allSatisfy { name in
            guard let other = services.first(where: { $0.unit.name == name }) else { return true }
            return [.running, .ended, .stopped, .failed].contains(other.state)
        }
    }

    /// When something is due; nil for never.
    var due: Int? { hasNext ? 0 : services.compactMap(\.due).min() }

    /// True when what the box can't do without is ready.
    var isSound: Bool { services.allSatisfy { !$0.unit.isEssential || $0.state == .running } }

    /// Which of them are not there.
    var complaint: String {
        let missing = services.filter { $0.unit.isEssential && $0.state != .running }.map {
            "\($0.unit.name) is \($0.state)"
        }
        return missing.isEmpty ? "its services run" : missing.joined(separator: ", ")
    }

    /// Takes note that a process has ended.
    ///
    /// - Returns: false when it was no service's.
    mutating func ended(_ pid: pid_t, _ status: Int32) -> Bool {
        if let i = services.firstIndex(where: { $0.completionPid == pid }) {
            services[i].completionEnded(status)
            return true
        }
        if let i = services.firstIndex(where: { $0.reload.pid == pid }) {
            services[i].reloadEnded(status)
            return true
        }
        guard let i = services.firstIndex(where: { $0.pid == pid }) else { return false }
        services[i].ended(status)
        adopt()
        return true
    }

    mutating func notified(by pid: pid_t, _ message: String) {
        let name = Cgroup.service(of: pid)
        guard let i = services.firstIndex(where: { $0.pid == pid || $0.unit.name == name }) else { return }
        services[i].notified(message)
    }

    /// Takes a message to syslog: of the service that its sender belongs to, where there is one.
    mutating func logged(by pid: pid_t, _ text: [UInt8]) {
        let name = Cgroup.service(of: pid)
        if let i = services.firstIndex(where: { $0.pid == pid || $0.unit.name == name }) {
            services[i].logged(text)
        } else {
            others.append(text[...])
        }
    }

    mutating func readLog(_ pipe: Int32) {
        if let i = services.firstIndex(where: { $0.pipe == pipe }) { services[i].readLog() }
    }

    // MARK: - Requests

    mutating func start(_ name: String) -> Bool { with(name) { $0.begin() } }

    mutating func stop(_ name: String) -> Bool { with(name) { $0.stop() } }

    mutating func restart(_ name: String) -> Bool {
        with(name) { $0.isAlive ? $0.stop(then: .waiting) : $0.begin() }
    }

    mutating func retry(_ name: String) -> Bool { with(name) { $0.retry() } }

    /// Has a service read its configuration again.
    ///
    /// - Returns: what is wrong with the request; nil for nothing.
    mutating func reloadConfiguration(_ name: String) -> String? {
        guard let i = services.firstIndex(where: { $0.unit.name == name }) else {
            return "there is no service \(name.prefix(64))"
        }
        guard services[i].unit.reload != nil else { return "service \(name) has no reload in its unit" }
        services[i].reloadConfiguration()
        return nil
    }

    /// Sends a signal to a service that runs; to another one it says nothing.
    mutating func signal(_ name: String, _ signal: Int32) -> Bool {
        with(name) { service in if service.isAlive, service.pid > 0 { Glibc.kill(service.pid, signal) } }
    }

    /// The unit of a service that PID 1 knows.
    func unit(_ name: String) -> Unit? { services.first { $0.unit.name == name }?.unit }

    /// Writes into the log of a service that it was refused a request.
    mutating func note(refusalOf request: String, to caller: Caller) {
        EventPort.send("request-refused", [("caller", caller.description), ("request", String(request.prefix(32)))])
        guard case .service(let name) = caller.origin else { return }
        _ = with(name) {
            $0.logged(Array("PID 1 refused the request \(request.prefix(32)): no access in its unit\n".utf8))
        }
    }

    private mutating func with(_ name: String, _ body: (inout SupervisedService) -> Void) -> Bool {
        guard let i = services.firstIndex(where: { $0.unit.name == name }) else { return false }
        body(&services[i])
        return true
    }

    /// A line for each service, tabs between: name, state, pid, restarts, bytes, status, what became of
    /// its last reload, and why it ended last.
    var report: String {
        func oneLine(_ text: String) -> String { text.map { $0 == "\t" || $0.isNewline ? " " : String($0) }.joined() }
        return services.map { service in
            let columns = [
                service.unit.name, service.state.rawValue, "\(service.pid)", "\(service.restarts)",
                "\(service.memory)", oneLine(service.status), oneLine(service.reload.status),
                oneLine(service.lastEnd),
            ]
            return columns.joined(separator: "\t") + "\n"
        }.joined()
    }

    // MARK: - The end

    /// Stops the services that no running one comes after, and kills those that exceed their time.
    ///
    /// - Returns: true when none is left.
    mutating func stopAll() -> Bool {
        for i in services.indices where services[i].isAlive {
            let name = services[i].unit.name
            let isNeeded = services.contains { $0.isAlive && after($0.unit).contains(name) }
            if !isNeeded { services[i].stop() }
            services[i].check()
        }
        return !services.contains(where: \.isAlive)
    }

    func killAll() { for service in services { service.kill() } }
}
