import Digests
import Files
import Glibc
import ImageBuilder
import Processes

/// Debian archives of a test below a folder: signed indexes of a few .debs, read by `file:` and
/// without network.
public struct DebianMirror {
    /// A .deb and its path in the archive.
    public struct Package: Sendable {
        public var deb: String
        public var path: String

        public init(_ deb: String, path: String? = nil) {
            (self.deb, self.path) = (deb, path ?? "pool/main/\(FileSystem.name(of: deb))")
        }
    }

    /// What a suite's Release file has beside its digests.
    public struct Suite: Sendable {
        public var name: String
        /// The name of the archive's folder.
        public var archive = "debian"
        public var origin = "Debian"
        public var label = "Debian"
        /// As backports: apt takes its packages only where they are asked for.
        public var isNotAutomatic = false
        /// The date of its InRelease, as date(1) takes it.
        public var date = "now"

        public init(
            _ name: String, archive: String = "debian", origin: String = "Debian", label: String = "Debian",
            isNotAutomatic: Bool = false, date: String = "now"
        ) {
            (self.name, self.archive, self.origin, self.label) = (name, archive, origin, label)
            (self.isNotAutomatic, self.date) = (isNotAutomatic, date)
        }
    }

    /// Where the archives are.
    public let folder: String
    private var signing: String { "\(folder)/gnupg" }
    /// The public key, as `signed-by` takes it.
    public var keyring: String { "\(folder)/keyring.gpg" }
    /// Stanzas of the suite trixie.
    private var debian = ""

    /// Makes a signing key.
    ///
    /// - Parameter folder: is made; its path is short, since gpg-agent's sockets are in it.
    public init(in folder: String) throws {
        self.folder = folder
        try FileSystem.makeDirectory("\(folder)/gnupg")
        try Command("chmod", ["700", signing]).check()
        try gpg(
            "--passphrase", "", "--quick-generate-key", "A test's archive <test@example.org>", "ed25519", "sign",
            "never")
        try gpg("--output", keyring, "--export")
    }

    private func gpg(_ arguments: String...) throws {
        try Command("gpg", ["--homedir", signing, "--batch", "--quiet", "--yes"] + arguments).check()
        // Its agent would outlive the test.
        _ = try Command("gpgconf", ["--homedir", signing, "--kill", "gpg-agent"]).run()
    }

    /// The address of an archive, as a definition takes it.
    public func url(_ archive: String = "debian") -> String { "file:\(folder)/\(archive)" }

    /// Writes a suite's packages and indexes, and signs them. A suite that was there is replaced.
    public func write(_ suite: Suite, _ packages: [Package]) throws {
        try write(suite, index: stanzas(packages, in: suite.archive))
    }

    /// Adds packages to Debian's suite trixie.
    public func add(_ packages: [Package]) throws {
        try write(Suite("trixie"), index: debian + stanzas(packages, in: "debian"))
    }

    private func write(_ suite: Suite, index: String) throws {
        let dists = "\(folder)/\(suite.archive)/dists/\(suite.name)"
        let place = "main/binary-amd64"
        try FileSystem.makeDirectory("\(dists)/\(place)")
        try FileSystem.replace("\(dists)/\(place)/Packages", with: index)
        try Command("xz", ["-1", "--keep", "--force", "\(dists)/\(place)/Packages"]).check()
        let date = try Command("date", ["-Rud", suite.date]).check().text
        let digests = try ["Packages", "Packages.xz"].map { name in
            let bytes = try FileSystem.read("\(dists)/\(place)/\(name)")
            return " \(SHA256.hash(bytes).hex) \(bytes.count) \(place)/\(name)\n"
        }
        try FileSystem.replace(
            "\(dists)/Release",
            with: "Origin: \(suite.origin)\nLabel: \(suite.label)\nSuite: \(suite.name)\nCodename: \(suite.name)\n"
                + "Date: \(date.replacing("+0000", with: "UTC"))"
                + (suite.isNotAutomatic ? "NotAutomatic: yes\nButAutomaticUpgrades: yes\n" : "")
                + "Architectures: amd64\nComponents: main\nSHA256:\n\(digests.joined())")
        try gpg("--output", "\(dists)/InRelease", "--clearsign", "\(dists)/Release")
    }

    /// Links .debs into an archive's pool, and makes their stanzas of a Packages file.
    private func stanzas(_ packages: [Package], in archive: String) throws -> String {
        let root = "\(folder)/\(archive)"
        var digests: [String] = []
        for package in packages {
            let path = "\(root)/\(package.path)"
            try FileSystem.makeDirectory(FileSystem.parent(of: path) ?? root)
            try FileSystem.remove(path)
            guard symlink(package.deb, path) == 0 else { throw SystemError("symlink", path) }
            // The cache's .debs have their digest as their name.
            let known = Digest(hex: FileSystem.name(of: package.deb).prefix(64))
            digests.append(try known?.hex ?? SHA256.hash(FileSystem.read(package.deb)).hex)
        }
        let fields = try Command(
            "sh",
            ["-euc", "for deb; do dpkg-deb -f \"$deb\"; stat -L -c 'Size: %s' \"$deb\"; echo; done", "sh"]
                + packages.map(\.deb)
        ).check().text.split(separator: "\n", omittingEmptySubsequences: false)
        var (text, number) = ("", 0)
        for line in fields {
            if line.isEmpty, number < packages.count {
                text += "Filename: \(packages[number].path)\nSHA256: \(digests[number])\n\n"
                number += 1
            } else if !line.isEmpty {
                text += line + "\n"
            }
        }
        return text
    }

    /// Lets a definition take its packages from here.
    ///
    /// - Parameters:
    ///   - name: of the definition whose `base:` is changed.
    ///   - images: its folder.
    public func use(by name: String, in images: String) throws {
        let path = "\(images)/\(name).yaml"
        let text = String(decoding: try FileSystem.read(path), as: UTF8.self)
        let keys = "  mirror: \(url())\n  security-mirror: \(url("debian-security"))\n  signed-by: keyring.gpg\n"
        try FileSystem.replace(path, with: text.editing("base:\n", with: "base:\n" + keys))
        try Command("cp", [keyring, "\(images)/keyring.gpg"]).check()
    }
}

extension DebianMirror {
    /// Debian's suites, with what lab-minimal has, and with what maintainer scripts make users by:
    /// adduser and passwd.
    ///
    /// The .debs are those of the user's cache. Where it lacks one, a lock is made once, with the
    /// network; it is kept with the tests' caches.
    ///
    /// - Parameters:
    ///   - repository: of this project.
    ///   - folder: of the mirror.
    public static func debian(_ repository: String, in folder: String) throws -> DebianMirror {
        let lock = try lock(repository)
        func packages(_ archive: String) -> [Package] {
            lock.packages.filter { $0.archive == archive }.map {
                Package(Cache.standard.package($0.digest), path: $0.path)
            }
        }
        var mirror = try DebianMirror(in: folder)
        let security = try mirror.stanzas(packages("security"), in: "debian-security")
        try mirror.write(
            Suite("trixie-security", archive: "debian-security", label: "Debian-Security"), index: security)
        let main = try mirror.stanzas(packages("main"), in: "debian")
        mirror.debian = main + placeholders(main + security)
        try mirror.write(Suite("trixie"), index: mirror.debian)
        try mirror.write(Suite("trixie-updates"), index: "")
        return mirror
    }

    /// A lock whose .debs are all in the cache.
    private static func lock(_ repository: String) throws -> Lock {
        let home = getenv("HOME").map { String(cString: $0) } ?? "/root"
        let caches = getenv("XDG_CACHE_HOME").map { String(cString: $0) } ?? "\(home)/.cache"
        let images = "\(caches)/vcpe-tests/mirror"
        let definition = try FileSystem.read("\(repository)/images/lab-minimal.yaml")
        let isCurrent = (try? FileSystem.read("\(images)/lab-minimal.yaml")) == definition
        if isCurrent, let lock = try? Lock.read("\(images)/mirror.lock"),
            Fetching.missing(lock.packages, cache: .standard).isEmpty
        {
            return lock
        }
        let making = "\(images).\(getpid())"
        try FileSystem.makeDirectory(making)
        defer { try? FileSystem.remove(making) }
        try Command("cp", ["-r", "\(repository)/images/profiles", "\(repository)/images/lab-minimal.yaml", making])
            .check()
        try FileSystem.replace(
            "\(making)/mirror.yaml", with: "name: mirror\nextends: lab-minimal\npackages: [adduser, passwd]\n")
        let program = "\(repository)/.build/debug/vcpe"
        for words in [["lock"], ["build", "--output", "\(making)/out", "--box", "\(repository)/.build/box"]] {
            try Command(
                program, words + ["mirror", "--images", making], environment: ["HOME": home, "XDG_CACHE_HOME": caches]
            ).check()
        }
        guard let lock = try Lock.read("\(making)/mirror.lock") else {
            throw SystemError("open", "\(making)/mirror.lock", code: ENOENT)
        }
        try FileSystem.remove("\(making)/out")
        try FileSystem.remove(images)
        // Another process may have been faster.
        guard rename(making, images) == 0 || errno == EEXIST || errno == ENOTEMPTY else {
            throw SystemError("rename", images)
        }
        return lock
    }

    /// Stanzas of packages that others depend on and that neither an image nor a reference root
    /// has, such as an initramfs generator: apt chooses them, and nothing fetches them.
    private static func placeholders(_ index: String) -> String {
        func names(_ relations: some StringProtocol) -> [[String]] {
            relations.split(separator: ",").map { group in
                group.split(separator: "|").map { name in
                    String(name.drop { $0 == " " }.prefix { !" (:[<".contains($0) })
                }
            }
        }
        var known: Set<String> = []
        var needed: [[String]] = []
        for line in index.split(separator: "\n") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let groups = names(line[line.index(after: colon)...])
            switch line[..<colon] {
            case "Package", "Provides": known.formUnion(groups.joined())
            case "Pre-Depends", "Depends": needed += groups
            default: break
            }
        }
        let missing = Set(needed.filter { group in group.allSatisfy { !known.contains($0) } }.compactMap(\.first))
        return missing.sorted().map { name in
            """
            Package: \(name)
            Version: 99:0
            Architecture: all
            Maintainer: x <x@example.org>
            Description: stands for a package that no test fetches
            Filename: pool/none/\(name).deb
            Size: 1
            SHA256: \(String(repeating: "0", count: 64))


            """
        }.joined()
    }
}
