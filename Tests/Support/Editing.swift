import Testing

extension String {
    /// The text with each `old` replaced. A text without it fails the test: a test that edits what
    /// another file says must not go on with the unchanged text when that file changes.
    public func editing(
        _ old: String, with new: String, fileID: String = #fileID, filePath: String = #filePath, line: Int = #line,
        column: Int = #column
    ) -> String {
        if !contains(old) {
            Issue.record(
                "There is no \"\(old)\" to replace.",
                sourceLocation: SourceLocation(fileID: fileID, filePath: filePath, line: line, column: column))
        }
        return replacing(old, with: new)
    }
}
