import Testing

/// The error of a type that a body throws; anything else is an issue of the test.
///
/// `#expect(throws:)` returns the error only since Swift 6.1.
func thrown<Failure: Error>(
    _ type: Failure.Type, _ what: String = "", sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () throws -> some Any
) -> Failure? {
    do {
        _ = try body()
    } catch let failure as Failure {
        return failure
    } catch {
        Issue.record("\(what): another error was thrown: \(error)", sourceLocation: sourceLocation)
        return nil
    }
    Issue.record("\(what): nothing was thrown", sourceLocation: sourceLocation)
    return nil
}
