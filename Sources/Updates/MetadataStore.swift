import Files

/// The metadata that a client trusts, in a folder: a file for each role, whole or as it was.
struct MetadataStore: Sendable {
    let folder: String

    /// Roles may have any name; `../x` must not leave the folder.
    private func path(_ role: String) -> String { "\(folder)/\(URLText.quoted(role)).json" }

    /// Nil where there is none.
    func read(_ role: String) -> [UInt8]? { try? FileSystem.read(path(role)) }

    func write(_ role: String, _ bytes: [UInt8]) throws(UpdateFailure) {
        do {
            try FileSystem.replace(path(role), with: bytes)
            try FileSystem.syncDirectory(folder)
        } catch {
            throw UpdateFailure(.storage, role, "it can't be kept: \(error)")
        }
    }
}
