/// The boot menu: the box, and the way back to the factory's document.
struct BootEntries {
    /// The kernel's command line.
    var commandLine: String
    var hasFactoryReset: Bool

    /// The sections of the UKI that tell them apart, each with its command line, under one
    /// signature (UAPI.5, multi-profile UKIs).
    var sections: [(name: String, bytes: [UInt8])] {
        let main = (".cmdline", Array(commandLine.utf8))
        guard hasFactoryReset else { return [main] }
        return [
            (".profile", Array("ID=main\n".utf8)), main,
            (".profile", Array("ID=factory-reset\nTITLE=factory reset\n".utf8)),
            (".cmdline", Array("vcpe.factory-reset \(commandLine)".utf8)),
        ]
    }

    /// What the loader reads on the EFI system partition. systemd-boot 257 may or may not list the
    /// profiles of a UKI by itself (as `vcpe-1.efi@factory-reset`, which is never the default); its
    /// stub takes the number of one.
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
