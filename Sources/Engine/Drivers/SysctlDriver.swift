import Files
import Glibc
import PluginKit

/// Sysctls: their keys are paths below /proc/sys.
struct SysctlDriver {
    private func path(_ key: String) throws -> String {
        guard !key.split(separator: "/").contains(".."), !key.hasPrefix("/") else {
            throw EngineError("sysctl \(key): no key")
        }
        return "/proc/sys/\(key)"
    }

    /// What a sysctl is now; nil when there is none of that name, as before its link has its name.
    func value(of key: String) -> String? {
        guard let path = try? path(key), let bytes = try? File(path, O_RDONLY).read(256, at: 0) else { return nil }
        return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    private func isSet(_ key: String, _ value: String) -> Bool {
        self.value(of: key) == value.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    func drift(from wanted: [Resource]) -> [String] {
        wanted.compactMap { resource in
            guard case .sysctl(let key, let value) = resource, !isSet(key, value) else { return nil }
            return "sysctl \(key) is \(self.value(of: key) ?? "gone"), and not \(value)"
        }
    }

    /// Sets a sysctl whose value is another.
    func set(_ key: String, _ value: String) throws {
        if isSet(key, value) { return }
        try File(try path(key), O_WRONLY).write(Array(value.utf8), at: 0)
        if key == "kernel/hostname" { try Self.noteHostName(value) }
    }

    /// Rewrites what PID 1 wrote at boot: programs look their own host's name up in /etc/hosts, a
    /// link to this file.
    private static func noteHostName(_ name: String) throws {
        let hosts = "/run/vcpe/hosts"
        guard let text = try? FileSystem.read(hosts) else { return }
        let lines = String(decoding: text, as: UTF8.self).split(separator: "\n").map {
            $0.hasPrefix("127.0.1.1 ") ? "127.0.1.1 \(name)" : String($0)
        }
        try FileSystem.replace(hosts, with: lines.joined(separator: "\n") + "\n")
        try FileSystem.replace("/run/vcpe/hostname", with: name + "\n")
    }

    /// Gives a sysctl back the value that it had before we set it, if it is still there.
    func putBack(_ key: String, _ value: String) throws {
        if self.value(of: key) != nil { try set(key, value) }
    }
}
