import Glibc
import Units

extension Unit.Signal {
    /// As kill(2) has it.
    var number: Int32 {
        switch self {
        case .term: SIGTERM
        case .int: SIGINT
        case .quit: SIGQUIT
        case .hup: SIGHUP
        case .usr1: SIGUSR1
        case .usr2: SIGUSR2
        case .winch: SIGWINCH
        case .kill: SIGKILL
        }
    }
}

extension Unit.Limit {
    /// RLIMIT_* of asm-generic/resource.h.
    var resource: Int32 {
        switch self {
        case .cpu: 0
        case .fsize: 1
        case .data: 2
        case .stack: 3
        case .core: 4
        case .nproc: 6
        case .nofile: 7
        case .memlock: 8
        case .addressSpace: 9
        }
    }
}

extension Unit.Condition {
    /// Whether the path is as the unit says, now. Links are followed.
    var isMet: Bool {
        var status = stat()
        let exists = stat(path, &status) == 0
        let isDirectory = exists && status.st_mode & S_IFMT == S_IFDIR
        let holds =
            switch kind {
            case .exists: exists
            case .directory: isDirectory
            case .notEmpty: exists && status.st_mode & S_IFMT == S_IFREG && status.st_size > 0
            case .filledDirectory: isDirectory && Text.hasEntries(path)
            }
        return holds != isNegated
    }
}
