import Documents

extension Definition {
    /// What a box accepts from a person with physical access, and from devices.
    public struct Outside: Sendable, Hashable {
        /// Also a box without a document takes only one that one of ``siteKeys`` has signed.
        public var requiresSiteKeys = false
        /// Documents may come from disks and sticks.
        public var hasStickSites = true
        /// Drivers are loaded for what is plugged in after the start.
        public var hasHotplug = true
        /// Classes of USB devices that are admitted; nil for all.
        public var usbClasses: [USBClass]?

        public enum USBClass: String, Sendable, CaseIterable {
            case audio, communication, hid, printer, storage, video, wireless, vendor

            /// Of interfaces (USB-IF: defined class codes).
            var numbers: [UInt8] {
                switch self {
                case .audio: [0x01]
                case .communication: [0x02, 0x0A]
                case .hid: [0x03]
                case .printer: [0x07]
                case .storage: [0x08]
                case .video: [0x0E]
                case .wireless: [0xE0]
                case .vendor: [0xFF]
                }
            }

            static let hub: UInt8 = 0x09
        }

        /// Lines of the image's own file: PID 1 and the engine read them.
        var words: String {
            var lines: [String] = []
            if requiresSiteKeys { lines.append("site-keys-required yes") }
            if !hasStickSites { lines.append("usb-sites no") }
            if !hasHotplug { lines.append("hotplug no") }
            if let usbClasses {
                let numbers = [USBClass.hub] + usbClasses.flatMap(\.numbers)
                lines.append("usb-classes \(numbers.map { "\($0)" }.joined(separator: " "))")
            }
            return lines.map { $0 + "\n" }.joined()
        }
    }

    /// - Parameter hasKeys: whether the definition names `site-keys`.
    static func outside(_ fields: inout Fields, hasKeys: Bool) -> Outside {
        let required = fields.optional("site-keys-required", Shape.boolean.located)
        if let required, required.value, !hasKeys {
            fields.problems.add(
                required.problem(
                    "no document could ever be taken: the definition names no site-keys",
                    hint: "add site-keys, whose signatures are required"))
        }
        let name = Shape.oneOf(Outside.USBClass.allCases.map(\.rawValue)).map { Outside.USBClass(rawValue: $0) }
        return Outside(
            requiresSiteKeys: required?.value ?? false, hasStickSites: fields.optional("usb-sites", .boolean) ?? true,
            hasHotplug: fields.optional("hotplug", .boolean) ?? true,
            usbClasses: fields.optional("usb-classes", .list(of: name)))
    }
}
