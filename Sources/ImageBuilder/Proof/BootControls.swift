import Documents

/// The controls of a boot. Each run records all of them, in the same order; a control that an
/// earlier failure prevents is skipped.
struct BootControls {
    /// Name and version, as the event `up` has them.
    let image: String
    /// Whether the image is signed for Secure Boot.
    let isSigned: Bool
    /// Whether the image has plugins, which the engine runs.
    let hasEngine: Bool

    /// Waits until the box has booted this release through the firmware and the loader (PID 1's
    /// event `up`), until the engine is ready, which it reports when the policy is in effect, and
    /// until PID 1 has loaded the drivers of all devices.
    ///
    /// - Parameter machine: gets the loader's entry and the state of Secure Boot.
    func run(
        _ box: RunningBox, _ machine: inout ProofRecord.Machine, _ observe: (ProofRun.Event) -> Void
    ) throws -> [ProofRecord.Check] {
        var checks: [ProofRecord.Check] = []
        let up = try box.wait("the event up", observe) { box.events.first("up") }
        if let up {
            checks += booted(up, box, &machine)
        } else {
            checks.append(.init("boots", .failed, seen: box.failure))
            checks += (["boots through firmware and loader"] + (isSigned ? ["Secure Boot is on"] : [])).map(skipped)
        }
        var isUp = up != nil
        if hasEngine {
            checks.append(
                try wait("the engine is ready", "the engine", isUp, box, observe) {
                    box.events.isReady("engine") ? "event service-ready" : nil
                })
            isUp = checks.last?.status == .passed
        }
        checks.append(
            try wait("drivers are loaded", "device drivers", isUp, box, observe) {
                box.events.first("coldplugged") == nil ? nil : "event coldplugged"
            })
        return checks
    }

    private func booted(
        _ up: JSON, _ box: RunningBox, _ machine: inout ProofRecord.Machine
    ) -> [ProofRecord.Check] {
        let booted = "\(up["name"]?.text ?? "") \(up["version"]?.text ?? "")"
        machine.loaderEntry = up["entry"]?.text ?? ""
        machine.secureBoot = up["secure-boot"]?.text == "on"
        let hasEntry = !machine.loaderEntry.isEmpty
        var checks: [ProofRecord.Check] = [
            .init(
                "boots", booted == image ? .passed : .failed, seen: "event up of \(booted)",
                milliseconds: box.milliseconds),
            .init(
                "boots through firmware and loader", hasEntry ? .passed : .failed,
                seen: hasEntry ? "entry \(machine.loaderEntry)" : "no entry of the loader"),
        ]
        if isSigned {
            checks.append(
                .init(
                    "Secure Boot is on", machine.secureBoot ? .passed : .failed,
                    seen: machine.secureBoot ? "SecureBoot is 1" : "SecureBoot is not 1"))
        }
        return checks
    }

    private func wait(
        _ name: String, _ what: String, _ isUp: Bool, _ box: RunningBox, _ observe: (ProofRun.Event) -> Void,
        _ event: () -> String?
    ) throws -> ProofRecord.Check {
        guard isUp else { return skipped(name) }
        let seen = try box.wait(what, observe, event)
        return .init(
            name, seen == nil ? .failed : .passed, seen: seen ?? box.failure, milliseconds: box.milliseconds)
    }

    private func skipped(_ name: String) -> ProofRecord.Check {
        .init(name, .skipped, seen: "the box has not booted")
    }
}
