/// The boot menu: a normal boot, and a factory reset.
struct BootEntries {
    /// The kernel's command line.
    var commandLine: String
    var hasFactoryReset: Bool

    /// The UKI's sections for the entries. Each entry has its own command line; one signature
    /// covers all of them (UAPI.5, multi-profile UKIs).
    var sections: [(name: String, bytes: [UInt8])] {
        let main = (".cmdline", Array(commandLine.utf8))
        guard hasFactoryReset else { return [main] }
        return [
            (".profile", Array("ID=main\n".utf8)), main,
            (".profile", Array("ID=factory-reset\nTITLE=factory reset\n".utf8)),
            (".cmdline", Array("vcpe.factory-reset \(commandLine)".utf8)),
        ]
    }

    /// The loader's files on the EFI system partition. The factory reset has an entry file, because
    /// systemd-boot 257 does not always list the profiles of a UKI (`vcpe-1.efi@factory-reset`,
    /// never the default). The entry selects the profile by its number, `@1`.
    static func files(hasFactoryReset: Bool) -> [(path: String, bytes: [UInt8])] {
        let settings = (
            "loader/loader.conf", Array("timeout 0\ndefault vcpe-*.efi\nconsole-mode keep\neditor no\n".utf8)
        )
        let types = ("loader/entries.srel", Array("type1\n".utf8))
        guard hasFactoryReset else { return [settings, types] }
        let entry = Array("title factory reset\nefi /EFI/Linux/vcpe-1.efi\noptions @1\n".utf8)
        return [settings, types, ("loader/entries/factory-reset.conf", entry)]
    }
}
