/// Words of a unit file (`docs/init.md`), as builder and engine write them.
public enum UnitWords {
    /// Backslashes before what would end a word.
    public static func quoted(_ word: String) -> String {
        word.isEmpty ? "\\e" : word.map { " \\".contains($0) ? "\\\($0)" : String($0) }.joined()
    }
}
