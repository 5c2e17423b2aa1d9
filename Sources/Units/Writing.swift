extension Unit {
    /// The unit's file, a line for each word that isn't as it is without that line.
    ///
    /// - Throws: for a value that no unit file can hold, such as one with a line break, naming the
    ///   word; whatever this returns, ``init(name:text:)`` reads as the same unit.
    public func text() throws(InvalidUnit) -> String {
        var text = ""
        for word in Word.allCases {
            for value in try values(of: word) {
                guard !value.utf8.contains(where: Self.isBreak) else {
                    throw InvalidUnit(
                        "unit \(name): a line break or NUL in the value of \(word.rawValue); neither is allowed")
                }
                text += value.isEmpty ? "\(word.rawValue)\n" : "\(word.rawValue) \(value)\n"
            }
        }
        guard try Unit(name: name, text: text) == self else {
            throw InvalidUnit("unit \(name): no unit file holds it: it would be read as another one")
        }
        return text
    }

    /// The values of a word's lines.
    private func values(of word: Word) throws(InvalidUnit) -> [String] {
        switch word {
        case .command: return [Self.quoted(command)]
        case .before: return before.map(Self.text)
        case .afterStart: return afterStart.map(Self.text)
        case .condition: return conditions.map(\.description)
        case .user: return user == 0 ? [] : ["\(user)"]
        case .group: return group == 0 ? [] : ["\(group)"]
        case .groups: return groups.isEmpty ? [] : [groups.map { "\($0)" }.joined(separator: " ")]
        case .workingDirectory: return optional(workingDirectory)
        case .umask: return umask == 0o022 ? [] : [String(umask, radix: 8)]
        case .capabilities: return optional(capabilities?.names.joined(separator: " "))
        case .noNewPrivileges: return flag(hasNoNewPrivileges)
        case .privateTmp: return flag(hasPrivateTmp)
        case .strict: return flag(profile != nil)
        case .writable: return profile?.writable ?? []
        case .visible: return profile?.visible ?? []
        case .device: return profile?.devices ?? []
        case .systemCalls: return (profile?.systemCalls ?? []).map(\.rawValue)
        case .addressFamily: return (profile?.families ?? []).map(\.rawValue)
        case .allow: return (profile?.permissions ?? []).map(\.rawValue)
        case .readOnly: return readOnly
        case .directory: return directories
        case .network: return optional(network)
        case .environment:
            if let key = environment.keys.first(where: { $0.isEmpty || $0.utf8.contains(UInt8(ascii: "=")) }) {
                throw InvalidUnit("unit \(name): environment \(key): the name of a variable is empty or has a =")
            }
            return environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        case .limit:
            return Limit.allCases.compactMap { limit in limits[limit].map { "\(limit.rawValue) \($0)" } }
        case .memory: return optional(memory)
        case .processes: return optional(processes)
        case .cpuWeight: return optional(cpuWeight)
        case .ioWeight: return optional(ioWeight)
        case .oomScoreAdjust: return oomScoreAdjustment == 0 ? [] : ["\(oomScoreAdjustment)"]
        case .after:
            if let other = after.first(where: { !Self.isName($0) }) {
                throw InvalidUnit("unit \(name): after \(other.prefix(60)): not a name")
            }
            return after.isEmpty ? [] : [after.joined(separator: " ")]
        case .once: return flag(isOnce)
        case .ready: return isOnce || readiness == .started ? [] : [Self.text(readiness)]
        case .readyTimeout: return readyTimeout == 90 ? [] : ["\(readyTimeout)"]
        case .watchdog: return optional(watchdog)
        case .restart: return isOnce || restart == .always ? [] : [restart.rawValue]
        case .reload:
            switch reload {
            case nil: return []
            case .signal(let signal): return ["signal \(signal.rawValue)"]
            case .command(let command): return ["command \(Self.text(command))"]
            }
        case .stopSignal: return stopSignal == .term ? [] : [stopSignal.rawValue]
        case .stopAll: return flag(stopsAll)
        case .stopTimeout: return stopTimeout == 10 ? [] : ["\(stopTimeout)"]
        case .essential: return flag(isEssential)
        case .neverFailed: return flag(isNeverFailed)
        case .access: return access.map(\.rawValue)
        case .stamp: return stamps
        }
    }

    private func optional(_ value: (some CustomStringConvertible)?) -> [String] { value.map { ["\($0)"] } ?? [] }

    private func flag(_ isSet: Bool) -> [String] { isSet ? [""] : [] }

    private static func text(_ command: Command) -> String {
        (command.mayFail ? "-" : "") + (command.isPrivileged ? "+" : "") + quoted(command.words)
    }

    private static func text(_ readiness: Readiness) -> String {
        switch readiness {
        case .started: "started"
        case .notify: "notify"
        case .file(let path): "file \(path)"
        case .forked(let path): path.map { "forked \($0)" } ?? "forked"
        case .exited: "exited"
        }
    }
}

extension Unit.Condition: CustomStringConvertible {
    public var description: String { "\(isNegated ? "!" : "")\(kind.rawValue) \(path)" }
}
