import Documents
@testable import Engine
import Files
import Glibc
import PluginKit
import Testing

@Suite struct FactStoreTests {
    private func withStore(_ body: (Places, FactStore) throws -> Void) throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-facts")
        defer { try? FileSystem.remove(folder) }
        var places = Places()
        places.run = folder
        try FileSystem.makeDirectory(places.state)
        try body(places, FactStore(places: places))
    }

    private func report(_ text: String, by service: String = "a", made: Int = 10, ends: Int? = nil) -> FactStore.Report
    {
        .init(value: ["text": .text(text)], ends: ends, made: made, service: service)
    }

    @Test func aLaterReportIsNotReplacedByAnEarlierOne() throws {
        try withStore { places, store in
            #expect(try store.take(report("second", made: 20), "mine", "x"))
            let isTaken = try store.take(report("first", made: 10), "mine", "x")
            #expect(!isTaken)
            try store.remove("mine", "x", by: "a", made: 15)
            #expect(store.reported(["mine"]).collections == ["mine": ["x": ["text": "second"]]])
            // Another engine finds the same.
            store.save()
            #expect(FactStore(places: places).reports == store.reports)
            try store.remove("mine", "x", by: "a", made: 30)
            #expect(store.reported(["mine"]).collections.isEmpty)
            // One that waited for an engine does not bring back what was removed later; known or not.
            let isBack = try store.take(report("late", made: 25), "mine", "x")
            #expect(!isBack)
            try store.remove("mine", "y", by: "a", made: 30)
            let isNew = try store.take(report("late", made: 25), "mine", "y")
            #expect(!isNew && store.reported(["mine"]).collections.isEmpty)
            #expect(try store.take(report("new", made: 40), "mine", "x"))
        }
    }

    @Test func aServiceChangesOnlyItsOwn() throws {
        try withStore { _, store in
            try store.take(report("a's"), "mine", "x")
            #expect(throws: EngineError.self) { try store.take(report("b's", by: "b", made: 20), "mine", "x") }
            #expect(throws: EngineError.self) { try store.remove("mine", "x", by: "b", made: 20) }
            // Root may, and anybody when it has ended.
            try store.take(report("root's", by: "", made: 30, ends: 1), "mine", "x")
            try store.take(report("b's", by: "b", made: 40), "mine", "x")
            #expect(store.reported(["mine"]).collections["mine"]?["x"]?["text"] == "b's")
        }
    }

    @Test func factsGoWithTheirEndAndTheirService() throws {
        try withStore { places, store in
            try store.take(report("over", ends: Uptime.milliseconds - 1), "mine", "over")
            try store.take(report("later", by: "b", ends: Uptime.milliseconds + 60_000), "mine", "later")
            try store.take(report("ever"), "mine", "ever")
            #expect(store.reported(["mine"]).collections["mine"]?.keys.sorted() == ["ever", "later"])
            #expect(store.forgetEnded() && !store.forgetEnded())
            #expect(store.reports["mine"]?.count == 2 && FactStore(places: places).reports["mine"]?.count == 2)
            store.keep(services: ["b"])
            #expect(store.reports["mine"]?.keys.sorted() == ["later"])
        }
    }

    /// Also where the plugin has the name of such a collection.
    @Test func noServiceFillsACollectionOfTheEngine() {
        for collection in FactCollections.ofEngine {
            #expect(!FactCollections.mayReport(collection, into: collection))
        }
        #expect(FactCollections.mayReport("vpn", into: "vpn") && FactCollections.mayReport("vpn", into: "vpn-peers"))
        #expect(FactCollections.mayReport("vpn", into: "leases") && !FactCollections.mayReport("vpn", into: "other"))
    }

    @Test func aServiceIsBounded() throws {
        try withStore { _, store in
            for i in 0..<FactStore.mostReports { try store.take(report("x"), "mine", "\(i)") }
            #expect(throws: EngineError.self) { try store.take(report("x"), "mine", "more") }
            try store.take(report("x", by: "b"), "mine", "more")
        }
    }
}
