/// What is left out of every image unless a definition's `keep:` names it: nothing on a box reads it.
///
/// `docs/packages.md` lists the same.
enum DefaultDrop {
    static let rules: [(reason: String, patterns: [String])] = [
        (
            "documentation and translations",
            [
                "/usr/share/doc/", "/usr/share/man/", "/usr/share/info/", "/usr/share/locale/", "/usr/share/gtk-doc/",
                "/usr/share/doc-base/", "/usr/share/lintian/", "/usr/share/bug/", "/usr/share/reportbug/",
                "/usr/share/apport/", "/usr/share/common-licenses/", "/usr/share/metainfo/", "/usr/share/base-files/",
            ]
        ),
        (
            "desktops and completion of other shells",
            [
                "/usr/share/applications/", "/usr/share/icons/", "/usr/share/pixmaps/", "/usr/share/menu/",
                "/usr/share/zsh/", "/usr/share/fish/", "/usr/share/bash-completion/", "/etc/bash_completion.d/",
            ]
        ),
        (
            "what other init systems start services by",
            [
                "/usr/lib/systemd/system/", "/usr/lib/systemd/user/", "/usr/lib/systemd/system-generators/",
                "/usr/lib/systemd/user-generators/", "/usr/lib/systemd/system-preset/",
                "/usr/lib/systemd/user-preset/", "/usr/lib/systemd/system-sleep/", "/usr/lib/systemd/system-shutdown/",
                "/usr/lib/systemd/ntp-units.d/", "/etc/init.d/", "/etc/init/", "/etc/rc?.d/", "/etc/sv/",
                "/etc/systemd/", "/etc/insserv.conf.d/",
            ]
        ),
        (
            "applied by the builder or by PID 1",
            [
                "/usr/lib/sysusers.d/", "/usr/lib/tmpfiles.d/", "/usr/lib/modules-load.d/", "/usr/lib/udev/",
                "/usr/share/base-passwd/",
            ]
        ),
        (
            "package management and initramfs tools",
            [
                "/usr/share/initramfs-tools/", "/usr/lib/dracut/", "/usr/lib/apt/", "/etc/apt/", "/etc/dpkg/",
                "/etc/kernel/", "/etc/initramfs-tools/", "/usr/share/debconf/", "/usr/share/pam-configs/",
                "/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/apt/", "/var/cache/debconf/",
            ]
        ),
        (
            "for compilers and debuggers",
            [
                "/usr/include/", "/usr/lib/debug/", "/usr/lib/valgrind/", "/usr/lib/*/pkgconfig/",
                "/usr/share/pkgconfig/", "/usr/share/gdb/",
            ]
        ),
        ("the boot partition's", ["/boot/**"]),
        ("hidden by file systems that the running box mounts", ["/dev/**", "/proc/**", "/sys/**", "/data/**"]),
    ]

    static let patterns = rules.flatMap(\.patterns).compactMap(PathPattern.init)
}
