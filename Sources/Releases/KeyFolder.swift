import Documents
import Files

/// Private keys that are at hand: on this disk, or on the sticks of those who sign.
public struct KeyFolder {
    /// By their identifiers.
    private var keys: [String: SigningKey] = [:]

    /// Reads the keys of folders. Those of other people's passphrases are left out, which is no error: they sign on another day.
    ///
    /// - Throws: ``ReleaseFailure`` when not one can be opened.
    public init(_ folders: [String], passphrase: String) throws {
        var (files, closed): ([String], [String]) = ([], [])
        for folder in folders {
            files += try FileSystem.list(folder).filter { $0.hasSuffix(".key") }.map { "\(folder)/\($0)" }
        }
        for file in files.sorted() {
            do {
                let key = try SigningKey.read(file, passphrase: passphrase)
                keys[key.identifier] = key
            } catch is ReleaseFailure {
                closed.append(file)
            }
        }
        guard !keys.isEmpty else {
            throw ReleaseFailure(
                files.isEmpty
                    ? "no key lies in \(folders.joined(separator: ", "))"
                    : "no key opens: \(closed.joined(separator: ", "))",
                hint: files.isEmpty ? "--keys names the folder of .key files" : "another passphrase")
        }
    }

    /// Keys that lie nowhere.
    init(_ keys: [SigningKey]) {
        self.keys = Dictionary(keys.map { ($0.identifier, $0) }) { first, _ in first }
    }

    subscript(identifier: String) -> SigningKey? { keys[identifier] }
}
