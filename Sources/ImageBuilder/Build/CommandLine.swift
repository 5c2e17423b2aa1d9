/// The kernel's command line in the boot image.
extension ProfileBuild {
    /// The root hash is the last word of the box's own, so that the images of two releases differ
    /// at one offset only. `--` ends what the kernel and PID 1 read: systemd-stub appends words of
    /// SMBIOS strings and of addons, which no signature covers.
    func commandLine(_ verity: Verity) -> String {
        var words = profile.consoles.map { "console=\($0)" }
        // "gpt": the kernel reads the backup of a partition table whose first copy is damaged by a
        // power loss. A kernel that hangs or crashes reboots, and a new release is marked failed
        // after three such boots. The limit for a soft lockup is 60 s, so that a host can pause a
        // virtual machine for 20 s.
        words += ["rdinit=/init", "panic=30", "softlockup_panic=1", "watchdog_thresh=30", "hung_task_panic=1"]
        words += ["ro", "gpt"] + KernelHardening.words
        words += definition.debug ? ["loglevel=7", "vcpe.debug"] : ["quiet", "loglevel=4"]
        words.append("vcpe.verity=\(verity.dataBlocks),\(hex(verity.salt)),\(verity.rootHash)")
        return (words + ["--"]).joined(separator: " ")
    }
}
