import Documents
import Files

/// The reason why a record of proofs does not admit an image to a release.
public struct ProofRejection: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Reason: Sendable, Hashable {
        /// There is no record.
        case missing
        /// A field is absent or of another type; its key.
        case malformed(String)
        /// A record of another format.
        case format(Int)
        /// `passed` contradicts the record's rows.
        case contradiction
        /// The run did not pass; its failures.
        case notPassed([String])
        /// A part's digest is absent or of another build; its name.
        case otherBuild(String)
        /// The image was not booted through firmware and loader; the firmware that was found.
        case firmware(String)
        /// A signed image that was booted without Secure Boot.
        case withoutSecureBoot
        /// The run began before the build was finished: times in seconds since 1970.
        case beforeBuild(started: Int, built: Int)
        /// The run ends later than now, or before it began.
        case time(started: Int, ended: Int, now: Int)
    }

    public var reason: Reason

    public init(_ reason: Reason) { self.reason = reason }

    public var description: String {
        switch reason {
        case .missing: "found no proofs, a release needs those of this build"
        case .malformed(let key): "found no valid \"\(key)\""
        case .format(let number): "found format \(number), allowed is \(ProofRecord.format)"
        case .contradiction: "\"passed\" contradicts the rows"
        case .notPassed(let failures): "the proofs failed:\n  \(failures.joined(separator: "\n  "))"
        case .otherBuild(let part): "the proofs are of another build: the digest of \(part) differs"
        case .firmware(let found): "the image was booted by \"\(found)\", allowed is a boot through \"uefi\" and loader"
        case .withoutSecureBoot: "the image is signed, and was booted without Secure Boot"
        case .beforeBuild(let started, let built):
            "the proofs began at \(UTC.text(of: started)), before the build ended at \(UTC.text(of: built))"
        case .time(let started, let ended, let now):
            "the proofs ran from \(UTC.text(of: started)) to \(UTC.text(of: ended)), now it is \(UTC.text(of: now))"
        }
    }
}

extension ProofRecord {
    /// Clocks of the machines that test and that release may differ by this much, in seconds.
    private static let clockDifference = 300

    /// Checks that the record admits a build to a release.
    ///
    /// - Parameters:
    ///   - digests: SHA-256 of the parts of the build.
    ///   - isSigned: the UKI has a signature.
    ///   - built: when the newest part was written, in seconds since 1970.
    ///   - now: seconds since 1970.
    public func admit(digests: [String: String], isSigned: Bool, built: Int, now: Int) throws(ProofRejection) {
        for part in digests.keys.sorted() where self.digests[part] != digests[part] {
            throw ProofRejection(.otherBuild(part))
        }
        guard passed else { throw ProofRejection(.notPassed(failures)) }
        guard machine.firmware == "uefi", !machine.loaderEntry.isEmpty else {
            throw ProofRejection(.firmware(machine.firmware))
        }
        guard machine.secureBoot || !isSigned else { throw ProofRejection(.withoutSecureBoot) }
        guard started >= built else { throw ProofRejection(.beforeBuild(started: started, built: built)) }
        guard started <= ended, ended <= now + Self.clockDifference else {
            throw ProofRejection(.time(started: started, ended: ended, now: now))
        }
    }

    /// Reads the record of a built image.
    public static func read(_ path: String) throws -> ProofRecord {
        guard FileSystem.exists(path) else { throw ProofRejection(.missing) }
        let json: JSON
        do {
            json = try JSON.parse(try FileSystem.read(path))
        } catch let error as InvalidJSON {
            throw ProofRejection(.malformed("JSON, \(error)"))
        }
        return try ProofRecord(json)
    }
}
