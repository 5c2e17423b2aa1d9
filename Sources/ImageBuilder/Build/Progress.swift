/// Progress of a build.
public enum BuildEvent: Sendable {
    /// A step starts; `reasons` are the reasons why it isn't skipped.
    case started(step: String, reasons: [String])
    /// Nothing that the step depends on has changed.
    case unchanged(step: String)
    /// Bytes and files of a running download.
    case downloading(bytes: Int, of: Int, files: Int, ofFiles: Int)
    /// A step has ended; `note` describes its outputs.
    case finished(step: String, note: String, seconds: Double)
    /// A message for the operator.
    case remark(String)
}

/// Takes the events of a build; called from one task at a time.
public typealias BuildObserver = @Sendable (BuildEvent) -> Void
