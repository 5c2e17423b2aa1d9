extension Facts {
    /// The state of a probe that some plugin has planned. An object's name is the probe's. A probe that
    /// has neither passed nor failed yet is absent.
    public struct ProbeState: FactType {
        public static let collection = "probes"

        /// Changes only after as many tries in a row as the probe's `threshold` and `rise` say.
        public var passes: Bool

        public init(passes: Bool) { self.passes = passes }

        public var json: JSON { ["passes": .boolean(passes)] }

        public static var shape: Shape<ProbeState> {
            .mapping("a probe's state") { fields in
                fields.required("passes", .boolean).map { ProbeState(passes: $0) }
            }
        }
    }
}

extension Facts {
    /// The known states of probes, by name.
    public var probes: [String: ProbeState] { values(ProbeState.self) }
}
