import Files
import Glibc
import Planning
import PluginKit
import Slots

/// The document that was flashed with the box: the provider's, at its first start.
extension Configuration {
    /// The user of the commit of a document that was flashed with the box.
    private static let flasher = "flash"

    /// What a technician put beside the box's disk image is the operator's document, when there is
    /// none yet and it can be planned: it is looked for once, at the first start.
    func takeFirstSite() {
        guard head.commit == nil, head.pending == nil else { return }
        // Power may have failed between its commit and the note that it is active.
        guard store.numbers.allSatisfy({ (try? store.commit($0))?.user == Self.flasher }) else { return }
        do {
            guard let text = try flashedSite() else { return }
            let documents = try SiteDocuments().with(text, as: .provider)
            let planned = try planning(documents, changed: [.provider], name: "site.yaml", checksFiles: false)().site
            for line in planned.plan.absent + planned.plan.warnings { Log.say(line) }
            var commit = Commit(
                number: 1, user: Self.flasher, comment: "flashed with the box", documents: documents,
                changed: [.provider], added: planned.added.count, removed: planned.removed.count, planMilliseconds: 0)
            commit.versions = versions(for: planned.site)
            try store.add(commit)
            head = Head(commit: 1)
            try store.setHead(head)
            Log.say("the document that was flashed is the operator's from now on")
        } catch {
            Log.say("the document that was flashed is not taken: \(error)")
        }
    }

    /// Nil where the box has no EFI system partition, or nothing was put there.
    private func flashedSite() throws -> String? {
        guard let device = places.espDevice else { return nil }
        let partition = try FATVolume(try File(device))
        guard try partition.find(Places.flashedSite) != nil else { return nil }
        let text = try partition.read(Places.flashedSite)
        if places.requiresSiteKeys {
            let isSigned = try partition.find(Places.flashedSignature) != nil
            try places.verifySite(text, isSigned ? try partition.read(Places.flashedSignature) : nil)
        }
        return String(decoding: text, as: UTF8.self)
    }
}

extension Places {
    /// Below the EFI system partition.
    fileprivate static let flashedSite = "vcpe/site.yaml"
    fileprivate static let flashedSignature = "\(flashedSite).sig"

    /// A document that was flashed may hold secrets, and is no factory's.
    func removeFlashedSite() throws {
        guard let device = espDevice else { return }
        let lock = try BoxDisk.lock(data: data)
        defer { withExtendedLifetime(lock) {} }
        var partition = try FATVolume(try File(device, O_RDWR))
        for path in [Places.flashedSite, Places.flashedSignature] where try partition.find(path) != nil {
            try partition.remove(path)
        }
    }
}
