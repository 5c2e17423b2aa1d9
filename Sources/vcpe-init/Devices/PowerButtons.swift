import CSystem
import Glibc

/// Input devices that can report the power button.
struct PowerButtons {
    /// Names in /dev/input by their descriptors.
    private var names: [Int32: String] = [:]

    /// Opens those that were added since; `epoll` watches them.
    mutating func open(_ epoll: Int32) {
        for name in Text.list("/dev/input") where name.hasPrefix("event") && !names.values.contains(name) {
            let device = Glibc.open("/dev/input/\(name)", O_RDONLY | O_NONBLOCK | O_CLOEXEC)
            guard device >= 0 else { continue }
            if csystem_is_power_button(device) == 1, csystem_epoll_add(epoll, device) == 0 {
                names[device] = name
            } else {
                close(device)
            }
        }
    }

    /// Whether a descriptor is a button's and that was pressed.
    mutating func wasPressed(_ descriptor: Int32, _ epoll: Int32) -> Bool {
        guard names[descriptor] != nil else { return false }
        let event = csystem_power_button_pressed(descriptor)
        if event == -1 {
            // A keyboard that was pulled out reports itself for ever.
            csystem_epoll_remove(epoll, descriptor)
            close(descriptor)
            names[descriptor] = nil
        }
        return event == 1
    }
}
