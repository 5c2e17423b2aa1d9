import Files
import Glibc
import Processes

/// Programs from PyPI that a test tries ours with, installed once and kept with the caches.
public struct PythonEnvironment {
    private let folder: String

    /// - Parameters:
    ///   - name: of the environment.
    ///   - packages: with their versions, as pip takes them.
    public init(_ name: String, _ packages: [String]) throws {
        let home = getenv("HOME").map { String(cString: $0) } ?? "/root"
        let caches = getenv("XDG_CACHE_HOME").map { String(cString: $0) } ?? "\(home)/.cache"
        folder = "\(caches)/vcpe-tests/\(name)"
        let mark = "\(folder)/packages"
        let wanted = packages.joined(separator: "\n")
        if (try? FileSystem.read(mark)).map({ String(decoding: $0, as: UTF8.self) }) == wanted { return }
        try FileSystem.remove(folder)
        try Command("python3", ["-m", "venv", folder]).check()
        // Where it finds PyPI.
        var variables = ["HOME": home]
        for name in ["PIP_INDEX_URL", "PIP_CONFIG_FILE", "http_proxy", "https_proxy", "PIP_CERT", "SSL_CERT_FILE"] {
            variables[name] = getenv(name).map { String(cString: $0) }
        }
        try Command("\(folder)/bin/pip", ["install", "-q"] + packages, environment: variables).check()
        try FileSystem.replace(mark, with: wanted)
    }

    public func program(_ name: String) -> String { "\(folder)/bin/\(name)" }
}
