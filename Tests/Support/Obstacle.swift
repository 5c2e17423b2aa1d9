import Files
import Glibc

/// What a service may put in the place of a folder or a file of a plan.
public enum Obstacle: CaseIterable, Sendable {
    case link, danglingLink, file, pipe, folder

    /// - Parameter victim: where a link leads.
    public func put(_ path: String, victim: String) throws {
        try FileSystem.remove(path)
        switch self {
        case .link: symlink(victim, path)
        case .danglingLink: symlink("/nonexistent/x", path)
        case .file: try FileSystem.replace(path, with: "in the way")
        case .pipe: mkfifo(path, 0o600)
        case .folder:
            try FileSystem.makeDirectory("\(path)/full/of")
            try FileSystem.replace("\(path)/full/of/files", with: "x")
        }
    }
}
