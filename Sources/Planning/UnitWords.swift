import Units

/// The engine's way to ``Unit/quoted(_:)`` until it writes its units as values.
public enum UnitWords {
    public static func quoted(_ word: String) -> String { Unit.quoted([word]) }
}
