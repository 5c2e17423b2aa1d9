@testable import Slots
import Testing

struct KernelCommandLineTests {
    @Test func onlyTheImagesOwnWordsCount() {
        let line = KernelCommandLine("quiet vcpe.debug vcpe.verity=5,aa,bb vcpe.verity=6,cc,dd -- vcpe.factory-reset\n")
        #expect(line.words == ["quiet", "vcpe.debug", "vcpe.verity=5,aa,bb", "vcpe.verity=6,cc,dd"])
        #expect(line["vcpe.debug"] == "" && line["vcpe.factory-reset"] == nil && line["vcpe"] == nil)
        #expect(line.verifiedRoot == .init(dataBlocks: 5, salt: "aa", hash: "bb"))
        #expect(
            KernelCommandLine("ro").verifiedRoot == nil && KernelCommandLine("vcpe.verity=x,a,b").verifiedRoot == nil)
    }
}
