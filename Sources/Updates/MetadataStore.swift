import Files

/// The metadata that a client trusts, in a folder: one file per role, each replaced atomically.
struct MetadataStore: Sendable {
    let folder: String

    /// A role may have any name, even `../x`, and its file must stay in the folder.
    private func path(_ role: String) -> String { "\(folder)/\(URLText.quoted(role)).json" }

    /// The stored metadata; nil if there is none.
    func read(_ role: String) -> [UInt8]? { try? FileSystem.read(path(role)) }

    func write(_ role: String, _ bytes: [UInt8]) throws(UpdateFailure) {
        do {
            try FileSystem.replace(path(role), with: bytes)
            try FileSystem.syncDirectory(folder)
        } catch {
            throw UpdateFailure(.storage, role, "it cannot be stored: \(error)")
        }
    }
}
