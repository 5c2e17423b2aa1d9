import Digests
import Glibc

/// Which paths a delegation covers (TUF 1.0, section 4.5).
enum Pattern {
    /// Matches each part between slashes by fnmatch(3); path and pattern must have the same number
    /// of parts.
    static func matches(_ path: String, _ pattern: String) -> Bool {
        let (parts, patterns) = (
            path.split(separator: "/", omittingEmptySubsequences: false),
            pattern.split(separator: "/", omittingEmptySubsequences: false)
        )
        // A backslash is literal, and a leading dot is not special.
        return parts.count == patterns.count
            && zip(parts, patterns).allSatisfy { fnmatch(String($1), String($0), FNM_NOESCAPE) == 0 }
    }

    /// The SHA-256 digest of a path, in hexadecimal digits.
    static func digest(of path: String) -> String { SHA256.hash(path.utf8).hex }
}
