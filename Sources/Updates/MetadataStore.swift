import Files

/// The metadata that a client trusts, in a folder: a file a role, each replaced as a whole.
struct MetadataStore: Sendable {
    let folder: String

    /// A role may have any name, also `../x`, and must not leave the folder.
    private func path(_ role: String) -> String { "\(folder)/\(URLText.quoted(role)).json" }

    /// Nil if there is none.
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
