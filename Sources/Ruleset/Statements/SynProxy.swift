import Documents

extension Statement {
    /// Answers TCP's first packets in the place of the server, until the client has answered. The values are what a server
    /// would offer in its answer.
    public struct SynProxy: StatementType {
        /// Bytes of a segment.
        public var mss: Int
        /// Shift of the window.
        public var windowScale: Int
        public var timestamps: Bool
        public var selectiveAcknowledgements: Bool

        public init(
            mss: Int = 1460, windowScale: Int = 7, timestamps: Bool = true, selectiveAcknowledgements: Bool = true
        ) {
            self.mss = mss
            self.windowScale = windowScale
            self.timestamps = timestamps
            self.selectiveAcknowledgements = selectiveAcknowledgements
        }

        public static let names = ["synproxy"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            let flags = body["flags"]?.list?.compactMap(\.text) ?? []
            guard let mss = body["mss"]?.integer, let scale = body["wscale"]?.integer, (1...65535).contains(mss),
                (0...14).contains(scale), Set(flags).isSubset(of: ["timestamp", "sack-perm"])
            else {
                throw UnsupportedRuleset(
                    json, "this synproxy",
                    allowed: ["mss 1 to 65535", "wscale 0 to 14", "flags timestamp and sack-perm"])
            }
            self.init(
                mss: mss, windowScale: scale, timestamps: flags.contains("timestamp"),
                selectiveAcknowledgements: flags.contains("sack-perm"))
        }

        public var json: JSON {
            let flags = [timestamps ? "timestamp" : nil, selectiveAcknowledgements ? "sack-perm" : nil]
                .compactMap { $0 }
            return [
                "synproxy": .object([
                    "mss": .integer(mss), "wscale": .integer(windowScale), "flags": flags.isEmpty ? nil : .texts(flags),
                ])
            ]
        }
    }

    public static func synproxy(_ proxy: SynProxy) -> Statement { Statement(proxy) }
}
