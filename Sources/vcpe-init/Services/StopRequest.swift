import Glibc

/// `poweroff` and `reboot`, as sysvinit's signals say it to PID 1.
enum StopRequest {
    static let powerOffSignal = SIGUSR2
    static let rebootSignal = SIGTERM

    static func send(powerOff: Bool) -> Int32 {
        if kill(1, powerOff ? powerOffSignal : rebootSignal) == 0 { return 0 }
        Console.say("\(Failure("kill", "PID 1"))")
        return 1
    }
}
