import Documents
import Files
import Glibc

/// Long runs of faults and garbage: suites whose names end in `Torture`, which `make torture` runs and `make test` leaves
/// out. Each run has another seed, unless `VCPE_TORTURE_SEED` gives one.
public enum Torture {
    public static let seed: UInt64 =
        getenv("VCPE_TORTURE_SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64.random(in: 1...UInt64.max >> 1)

    private static let path =
        "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/out/torture.json"

    /// Adds a result to `out/torture.json`.
    public static func note(_ name: String, checked: Int, failed: Int) throws {
        if let folder = FileSystem.parent(of: path) { try FileSystem.makeDirectory(folder) }
        let known = (try? JSON.parse(FileSystem.read(path)))?.list ?? []
        let result: JSON = [
            "name": .text(name), "checked": .integer(checked), "failed": .integer(failed),
            "seed": .integer(Int(clamping: seed)),
        ]
        try FileSystem.replace(path, with: JSON.list(known.filter { $0["name"] != result["name"] } + [result]).pretty)
        print("torture: \(name): \(checked) checked, \(failed) failed, seed \(seed)")
    }
}
