import Transfers

/// A repository behind an address: `https:`, `http:`, or `file:` for one on a stick.
public struct HTTPSource: MetadataSource {
    private let base: String
    private let stallTime: Int

    /// - Parameter stallTime: seconds with next to no data after which the server is given up.
    public init(_ base: String, stallTime: Int = 30) {
        self.base = base
        self.stallTime = stallTime
    }

    public func read(_ file: String, most: Int) throws(UpdateFailure) -> [UInt8]? {
        do {
            return try Transfers.read(URLText.joined(base, file), most: most, stallTime: stallTime)
        } catch {
            switch error.reason {
            case .gone, .refused(403): return nil
            case .mismatch(let text): throw UpdateFailure(.tooLong, file, text)
            case .refused, .transfer, .local: throw UpdateFailure(.unavailable, file, "\(error)")
            }
        }
    }
}
