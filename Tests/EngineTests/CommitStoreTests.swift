import Documents
@testable import Engine
import Files
import PluginKit
import Testing

/// What stays of the history.
@Suite struct CommitStoreTests {
    private var store: CommitStore

    init() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-commits")
        store = CommitStore(folder: "\(folder)/commits", release: nil)
    }

    private func finish() throws { try FileSystem.remove(FileSystem.parent(of: store.folder) ?? "") }

    /// Adds commits as the engine does, each with what became of it.
    private func add(
        _ count: Int, _ document: SiteDocument, by role: Role? = nil, bytes: Int = 10, isApplied: Bool = true
    ) throws {
        for _ in 0..<count {
            var documents = SiteDocuments()
            documents[document] = String(repeating: "x", count: bytes)
            var commit = Commit(
                number: store.nextNumber, user: "root", comment: "", documents: documents, changed: [document],
                added: 0, removed: 0, planMilliseconds: 0)
            commit.role = role
            try store.add(commit)
            if isApplied { try store.setAfter(commit) }
            try store.prune(but: Head(commit: commit.number))
        }
    }

    private func numbers(of document: SiteDocument) throws -> [Int] {
        try store.numbers.filter { try store.commit($0).changed == [document] }
    }

    @Test func aBoxWithOneDocumentKeepsTheNewest50() throws {
        try add(60, .provider)
        #expect(store.numbers == Array(11...60))
        try finish()
    }

    /// One owner's commits can't push those of another out.
    @Test func oneOwnersCommitsDoNotPushOthersOut() throws {
        try add(40, .provider)
        try add(60, .customer)
        #expect(try numbers(of: .provider) == Array(16...40))
        #expect(try numbers(of: .customer) == Array(76...100))
        try add(3, .provider, isApplied: false)
        #expect(try numbers(of: .provider) == Array(19...40) + Array(101...103))
        #expect(store.numbers.count == 50)
        try finish()
    }

    /// Operators commit by plugins' commands, as often as they like.
    @Test func operatorsCommitsDoNotPushAdministratorsOut() throws {
        try add(40, .provider, by: .administrator)
        try add(200, .provider, by: .operator)
        let administrators = try store.numbers.filter { try store.commit($0).role == .administrator }
        #expect(administrators == Array(16...40))
        #expect(store.numbers.count == 50 && store.numbers.last == 240)
        try add(60, .provider, by: .administrator, isApplied: false)
        #expect(try store.numbers.filter { try store.commit($0).role == .operator } == Array(236...240))
        try finish()
    }

    /// Which commit was active at a time is not guessed from the neighbours of removed ones.
    @Test func gapsOfTheHistoryAreErrors() throws {
        try add(30, .provider)
        try add(60, .customer)
        try add(1, .provider)
        let numbers = store.numbers
        #expect(numbers.first == 7 && numbers.contains(30) && !numbers.contains(31) && numbers.last == 91)
        #expect(throws: EngineError.self) { try store.checkComplete(after: 30) }
        for number in numbers where number != 30 { try store.checkComplete(after: number) }
        try finish()
    }

    /// An owner with few commits leaves the rest of the room to the other one.
    @Test func roomThatOneOwnerDoesNotNeedIsTheOthers() throws {
        try add(3, .provider)
        try add(60, .customer)
        #expect(try numbers(of: .provider) == [1, 2, 3])
        #expect(try numbers(of: .customer).count == 47)
        try finish()
    }

    @Test func bytesAreSharedToo() throws {
        var small = self
        small.store.most = 64 << 10
        try small.add(4, .provider, bytes: 4 << 10)
        try small.add(20, .customer, bytes: 4 << 10)
        #expect(try numbers(of: .provider) == [1, 2, 3, 4])
        let customers = try numbers(of: .customer)
        #expect((7...12).contains(customers.count))
        try finish()
    }
}
