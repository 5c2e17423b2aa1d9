/// What an image sets against an attacker who runs code on the box: the list of the Kernel
/// Self-Protection Project (its "Recommended Settings"), as far as a router bears it.
enum KernelHardening {
    static let path = "usr/lib/sysctl.d/50-vcpe.conf"

    /// sysctl.d(5). `-` marks keys that a suite's kernel may lack. A later file, such as one of
    /// `/etc/sysctl.d`, may set other values.
    static let settings = """
        # Addresses of the kernel are shown to no program.
        kernel.kptr_restrict = 2
        kernel.dmesg_restrict = 1
        kernel.perf_event_paranoid = 3
        kernel.randomize_va_space = 2
        -vm.mmap_rnd_bits = 32
        -vm.mmap_rnd_compat_bits = 16
        # No program reads or changes another one.
        -kernel.yama.ptrace_scope = 3
        fs.suid_dumpable = 0
        # Parts of the kernel that no service of a router uses, and attackers do.
        user.max_user_namespaces = 0
        -kernel.unprivileged_userns_clone = 0
        kernel.unprivileged_bpf_disabled = 1
        -kernel.io_uring_disabled = 2
        -vm.unprivileged_userfaultfd = 0
        -dev.tty.ldisc_autoload = 0
        -dev.tty.legacy_tiocsti = 0
        -net.core.bpf_jit_harden = 2
        # No other kernel, and no commands by key.
        -kernel.kexec_load_disabled = 1
        -kernel.sysrq = 0
        # Files that others may have put in the place of a name.
        fs.protected_symlinks = 1
        fs.protected_hardlinks = 1
        fs.protected_fifos = 2
        fs.protected_regular = 2
        vm.mmap_min_addr = 65536

        """

    /// Words of the kernel's command line (kernel-parameters.txt): no unsigned module and no write
    /// access to the kernel, a restart after an oops, memory that is cleared when it is freed, and a
    /// stack at another place in each system call.
    static let words = [
        "lockdown=integrity", "module.sig_enforce=1", "oops=panic", "init_on_free=1", "slab_nomerge",
        "randomize_kstack_offset=on", "vsyscall=none",
    ]
}
