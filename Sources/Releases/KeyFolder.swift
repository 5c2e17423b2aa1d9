import Documents
import Files

/// The private keys that are available for signing: on this disk, or on the sticks of the signers.
public struct KeyFolder {
    /// Sealed keys, by identifier; each is opened only when it must sign.
    private var sealed: [String: SealedKey] = [:]
    /// Keys in memory, and programs that sign, by identifier.
    private var opened: [String: any MetadataSigner] = [:]
    private let passphrase: String

    /// Lists the keys of folders. None is opened yet: unsealing a key takes most of a second.
    ///
    /// - Parameter made: keys of these folders that are in memory already.
    /// - Throws: ``ReleaseFailure`` if the folders hold neither a key file nor a signer program.
    public init(_ folders: [String], passphrase: String, made: [SigningKey] = []) throws {
        self.passphrase = passphrase
        opened = Dictionary(made.map { ($0.identifier, $0) }) { first, _ in first }
        for folder in folders {
            for name in try FileSystem.list(folder).sorted() {
                if name.hasSuffix(".key") {
                    let key = try SealedKey("\(folder)/\(name)")
                    sealed[SigningKey.identifier(of: key.publicKey)] = key
                } else if name.hasSuffix(".signer") {
                    let program = try SignerProgram("\(folder)/\(name)")
                    opened[program.identifier] = program
                }
            }
        }
        guard !sealed.isEmpty || !opened.isEmpty else {
            throw ReleaseFailure(
                "\(folders.joined(separator: ", ")): found no keys, allowed are .key files and .signer programs",
                hint: "--keys FOLDER, with one of these")
        }
    }

    /// Keys that exist in memory only.
    init(_ keys: [SigningKey]) {
        passphrase = ""
        opened = Dictionary(keys.map { ($0.identifier, $0) }) { first, _ in first }
    }

    /// The identifiers of all available keys.
    var identifiers: Set<String> { Set(sealed.keys).union(opened.keys) }

    /// Opens the keys among `identifiers` that this passphrase opens. Keys of one folder may have
    /// different passphrases.
    ///
    /// - Throws: ``ReleaseFailure`` if there are such keys and the passphrase opens none of them.
    func open(_ identifiers: [String]) throws(ReleaseFailure) -> [any MetadataSigner] {
        var found: [any MetadataSigner] = []
        var failure: ReleaseFailure?
        for identifier in identifiers {
            if let key = opened[identifier] {
                found.append(key)
                continue
            }
            guard let key = sealed[identifier] else { continue }
            do { found.append(try SigningKey(key, passphrase: passphrase)) } catch { failure = error }
        }
        if found.isEmpty, let failure { throw failure }
        return found
    }
}
