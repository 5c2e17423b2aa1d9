extension Facts {
    /// A network port of the hardware. The kernel's name for it is no fact: a plan gives it another name.
    /// An object's name is the port's MAC address, followed by its place where two have the same.
    public struct Port: FactType {
        public static let collection = "ports"

        /// Its driver's name, such as `igc`.
        public var driver: String
        /// Its place on the bus, such as `0000:03:00.0`; empty where it has none.
        public var path: String
        public var mac: MACAddress

        public init(driver: String, path: String, mac: MACAddress) {
            self.driver = driver
            self.path = path
            self.mac = mac
        }

        public var json: JSON {
            ["driver": .text(driver), "path": .text(path), "mac": .text(mac.description)]
        }

        public static var shape: Shape<Port> {
            .mapping("a port") { fields in
                let driver = fields.required("driver", .text)
                let path = fields.required("path", .text)
                let mac = fields.required("mac", .macAddress)
                guard let driver, let path, let mac else { return nil }
                return Port(driver: driver, path: path, mac: mac)
            }
        }
    }
}

extension Facts {
    /// The ports as the hardware counts them: by place; where that is the same or unknown, by address.
    public var ports: [Port] {
        values(Port.self).values.sorted {
            $0.path != $1.path ? $0.path < $1.path : $0.mac.description < $1.mac.description
        }
    }

    public mutating func set(ports: [Port]) {
        var named: [String: Port] = [:]
        for port in ports {
            let name = port.mac.description
            named[named[name] == nil ? name : "\(name) \(port.path)"] = port
        }
        set(named)
    }

    /// The terminals that the kernel writes to, such as `ttyS0`.
    public var consoles: [String] { (collections["consoles"] ?? [:]).keys.sorted() }

    public mutating func set(consoles: [String]) {
        if consoles.isEmpty { return }
        collections["consoles"] = Dictionary(consoles.map { ($0, [:]) }) { $1 }
    }
}
