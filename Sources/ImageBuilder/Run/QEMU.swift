import Files
import Glibc

/// The emulator.
public enum QEMU {
    /// The path of `qemu-system-x86_64`, found in PATH.
    public static func find() throws -> String {
        let name = "qemu-system-x86_64"
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        for folder in path.split(separator: ":") where access("\(folder)/\(name)", X_OK) == 0 {
            return "\(folder)/\(name)"
        }
        throw BuildFailure("there is no \(name) on the PATH", hint: "apt-get install qemu-system-x86 ovmf")
    }
}

/// UEFI for QEMU: Debian's package `ovmf`.
public enum OVMF {
    /// The paths of the firmware's code and of a template of its variable store.
    ///
    /// - Parameter secureBoot: the code that keeps variables in SMM, as Secure Boot needs it; and a
    ///   store that holds the public test key "snakeoil".
    public static func find(secureBoot: Bool) throws -> (code: String, variables: String) {
        (
            try find(secureBoot ? "OVMF_CODE_4M.secboot.fd" : "OVMF_CODE_4M.fd"),
            try find(secureBoot ? "OVMF_VARS_4M.snakeoil.fd" : "OVMF_VARS_4M.fd")
        )
    }

    /// Writes a fresh variable store for a machine.
    ///
    /// A store is never shared by machines: one that another machine type has written made OVMF
    /// hang.
    ///
    /// - Parameters:
    ///   - path: of the new store.
    ///   - certificate: a path of a PEM certificate, which becomes the store's platform key, key
    ///     exchange key and only authorized signer: the machine boots with Secure Boot on. Nil:
    ///     Secure Boot is off.
    public static func makeVariables(_ path: String, certificate: String?) throws -> VirtualMachine.Firmware {
        var store = try VariableStore(FileSystem.read(find("OVMF_VARS_4M.fd")))
        if let certificate {
            let bytes: [UInt8]
            do {
                bytes = try PEM.certificate(FileSystem.read(certificate))
            } catch let error as PEM.Malformed {
                throw BuildFailure(
                    "\(certificate): \(error.found), allowed is one X.509 certificate in PEM",
                    hint: "openssl x509 -in \(certificate) -text")
            }
            try store.enroll(certificate: bytes)
        }
        try FileSystem.replace(path, with: store.bytes)
        return .uefi(variables: path, secureBoot: certificate != nil)
    }

    private static func find(_ name: String) throws -> String {
        let path = "/usr/share/OVMF/\(name)"
        guard FileSystem.exists(path) else {
            throw BuildFailure("there is no \(path), the UEFI firmware for QEMU", hint: "apt-get install ovmf")
        }
        return path
    }
}
