/// What an installation leaves that an image has no use for. `docs/packages.md` lists the same with the reasons.
enum IgnoredEffects {
    /// Reasons by patterns.
    static let rules: [(reason: String, patterns: [String])] = [
        (
            "file systems of their own on a running box", ["/dev/", "/proc/", "/sys/", "/tmp/", "/.vcpe/"]
        ),
        (
            "dpkg's, apt's and their helpers' own state",
            [
                "/var/lib/dpkg/", "/var/lib/apt/", "/var/lib/ucf/", "/var/lib/pam/", "/var/lib/systemd/",
                "/var/lib/python/", "/var/lib/shells.state", "/var/lib/emacsen-common/", "/var/lib/sgml-base/",
                "/var/lib/xml-core/", "/var/lib/usbutils/", "/etc/apt/**", "/usr/share/info/dir*", "/etc/dpkg/shlibs*",
            ]
        ),
        (
            "caches, made again when they are missing (of others below /var/cache only the files)",
            [
                "/var/cache/apt/", "/var/cache/debconf/", "/var/cache/ldconfig/", "/var/cache/man/",
                "/var/cache/fontconfig/", "/etc/ld.so.cache", "/run/adduser",
            ]
        ),
        (
            "logs of the installation",
            [
                "/var/log/dpkg.log", "/var/log/alternatives.log", "/var/log/bootstrap.log", "/var/log/apt/",
                "/var/log/fontconfig.log", "/var/log/faillog", "/var/log/lastlog", "/var/log/wtmp", "/var/log/btmp",
            ]
        ),
        (
            "written by the builder from the recorded users and groups",
            [
                "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/passwd-", "/etc/group-",
                "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock", "/etc/subuid-", "/etc/subgid-",
            ]
        ),
        (
            "the identity of one machine, which each box makes for itself",
            [
                "/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/ssh/ssh_host_*", "/etc/hostname", "/etc/hosts",
                "/etc/resolv.conf", "/etc/mtab", "/etc/fstab", "/etc/adjtime",
            ]
        ),
        (
            "what starts services under other init systems",
            ["/etc/systemd/system/**", "/etc/systemd/user/**", "/etc/rc?.d/", "/etc/rc?.d/**"]
        ),
        (
            "boot files, which the image has in its boot partition",
            ["/boot/**", "/vmlinuz*", "/initrd.img*", "/etc/initramfs-tools/**", "/etc/kernel/**"]
        ),
        (
            "Python's byte code, whose times would not match the image's files",
            ["/**/__pycache__/", "/**/__pycache__/**", "/**.pyc"]
        ),
    ]

    private static let patterns = rules.flatMap(\.patterns).compactMap(PathPattern.init)

    static func contains(_ path: String, isDirectory: Bool = false) -> Bool {
        patterns.contains { $0.matches(path) } || !isDirectory && path.hasPrefix("var/cache/")
    }

    /// Directories whose contents need not be read at all.
    static func isUnread(_ path: String) -> Bool { unread.contains(path) }

    private static let unread: Set<String> = [
        "dev", "proc", "sys", ".vcpe", "var/lib/dpkg", "var/lib/apt", "usr/share/doc", "usr/share/man",
        "usr/share/locale", "usr/share/info", "usr/lib/modules", "usr/lib/firmware", "boot",
    ]
}
