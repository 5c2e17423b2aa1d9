import Digests
import Glibc

/// Which paths a delegation is about.
enum Pattern {
    /// Patterns of a shell in each part between slashes, of which there must be as many.
    static func matches(_ path: String, _ pattern: String) -> Bool {
        let (parts, patterns) = (
            path.split(separator: "/", omittingEmptySubsequences: false),
            pattern.split(separator: "/", omittingEmptySubsequences: false)
        )
        // A backslash is one, and a leading dot nothing special.
        return parts.count == patterns.count
            && zip(parts, patterns).allSatisfy { fnmatch(String($1), String($0), FNM_NOESCAPE) == 0 }
    }

    /// SHA-256 of a path, in hexadecimal digits.
    static func digest(of path: String) -> String { SHA256.hash(path.utf8).hex }
}
