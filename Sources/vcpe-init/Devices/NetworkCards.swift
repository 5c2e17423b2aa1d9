import Glibc

/// Network cards and their drivers.
enum NetworkCards {
    /// `eth0:e1000e eth1:virtio_net`, as the kernel names them.
    static var summary: String {
        Text.list("/sys/class/net").compactMap { name in
            var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
            guard realpath("/sys/class/net/\(name)/device/driver", &buffer) != nil else { return nil }
            let path = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            return "\(name):\(path.split(separator: "/").last ?? "")"
        }.joined(separator: " ")
    }
}
