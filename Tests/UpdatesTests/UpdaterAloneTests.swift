import Digests
import Documents
import Files
import Processes
@testable import Releases
import Testing
@testable import Updates

/// What the updater does by itself, as the director and earlier fallbacks decide.
extension UpdaterTests {
    /// - Parameter ran: when the newest release that was confirmed healthy here was published.
    private func remember(_ ran: Int = 1) throws {
        try FileSystem.makeDirectory("\(folder)/data/vcpe/upgrade")
        try FileSystem.replace("\(folder)/data/vcpe/upgrade/known", with: "{\"ran\":\(ran)}")
    }

    // MARK: - The director

    private func direct(to version: String, window: MaintenanceWindow? = nil) throws {
        var repository = try ReleaseRepository(box("updates"), now: now - 50)
        let session = SigningSession.unattended(KeyFolder([key]))
        if !FileSystem.exists("\(box("updates"))/director") {
            #expect(try repository.addDirector(.init([key.publicKey], threshold: 1), signing: session) == .published)
        }
        _ = try repository.direct("north", image: "box", to: version, window: window, days: 30, signing: session)
    }

    private func join(_ ran: Int = 1) throws {
        try FileSystem.replace(
            box("settings.json"), with: "{\"repository\":\"file:///box/updates\",\"group\":\"north\"}")
        try remember(ran)
    }

    @Test func aBoxOfAGroupInstallsWhatItsDirectorNames() throws {
        try comesToItsRoot {
            try direct(to: "1.0.1")
            try join()
        }
        let other = try ask("install", "--to", "1.0.0")
        #expect(other?.contains("the director wants 1.0.1 in the group north: 1.0.0 is not for this box") == true)
        // Once it has seen the second direction, it refuses the first.
        let file = "\(box("updates"))/director/north.json"
        let first = try FileSystem.read(file)
        try direct(to: "1.0.1")
        #expect(try ask("install")?.contains("device-mapper") == true)
        try FileSystem.replace(file, with: first)
        #expect(try ask("install")?.contains("director/north.json: its counter is 1") == true)

        try refuses("the repository has no director") {
            try publish()
            try join()
        }
        try refuses("director/north.json", "group north") {
            try publish()
            try direct(to: "1.0.1")
            try FileSystem.remove("\(box("updates"))/director/north.json")
            try join()
        }
        try refuses("the director wants 1.0.1, which is older than what was found good here") {
            try publish()
            try direct(to: "1.0.1")
            try join(now)
        }
    }

    /// By itself, only in the director's window.
    @Test func aBoxOfAGroupChecksInItsDirectorsWindow() throws {
        let (day, hour) = (86_400, 3600)
        for (from, isOpen) in [(now - hour, true), (now + 2 * hour, false)] {
            try reset()
            try publish()
            try direct(
                to: "1.0.1", window: MaintenanceWindow(from: from % day, to: (from + 2 * hour) % day))
            try join()
            let said = try run(["automatic"]).errorText
            #expect(said.contains("device-mapper") == isOpen, "\(said)")
            let slot = try FileSystem.read(box("root-b"))
            #expect(slot.starts(with: releases[1].root) == isOpen)
        }
    }

    // MARK: - What is tried again

    /// A release fell back because it did not reach its provider: it is tried again if the provider
    /// was down, and not if the release was at fault.
    @Test func anOutageOfTheProviderDoesNotFailARelease() throws {
        // The running root is read through dm-verity, which files do not have; the provider is the
        // only probe.
        let device = "umount -l dev; mount -t tmpfs tmpfs dev; mknod dev/null c 1 3; cp box/root-a dev/dm-0\n"
        for isAway in [true, false] {
            try reset()
            try publish()
            let kept = "\(folder)/data/vcpe/upgrade"
            try remember()
            try FileSystem.replace("\(kept)/installed", with: "{\"version\":\"1.0.1\",\"entry\":2}")
            try FileSystem.replace(
                "\(folder)/data/vcpe/failed-start", with: "box 1.0.1: these probes fail: repository\nits last words\n")
            let entry = "::EFI/Linux/vcpe-2+0-3.efi"
            try Command("mcopy", ["-i", box("esp"), "\(folder)/1.0.1/uki", entry]).check()
            try FileSystem.replace(box("settings.json"), with: "{\"repository\":\"http://127.0.0.1:8123\"}")
            _ = try run(["settle"], before: (isAway ? "" : Self.serve) + device)
            let history = String(decoding: try FileSystem.read("\(kept)/history"), as: UTF8.self)
            #expect(history.contains("which 1.0.0 does not reach either") == isAway, "\(history)")
            let said = try run(["automatic"], before: Self.serve).errorText
            #expect(said.contains("1.0.1 fell back before") != isAway, "\(said)")
            #expect(said.contains("device-mapper") == isAway, "\(said)")
        }
    }

    /// The provider was down twice: then the release may be at fault.
    @Test func aProviderExcusesAReleaseOnce() throws {
        try reset()
        try publish()
        try remember()
        let fall = "{\"version\":\"1.0.1\",\"outcome\":\"fell back\",\"provider-away\":true}\n"
        for (falls, said) in [(1, "device-mapper"), (2, "1.0.1 fell back before")] {
            let history = String(repeating: fall, count: falls)
            try FileSystem.replace("\(folder)/data/vcpe/upgrade/history", with: history)
            #expect(try run(["automatic"]).errorText.contains(said))
        }
    }

    /// An operator chose an older release in the loader: the box does not restart for the newer
    /// one.
    @Test func aBoxDoesNotRestartForAnEntryThatWasNotChosen() throws {
        try reset()
        try publish()
        try remember()
        let name = "::EFI/Linux/vcpe-2.efi"
        try Command("mcopy", ["-i", box("esp"), "\(folder)/1.0.1/uki", name]).check()
        let said = try run(["automatic"]).errorText
        #expect(said.contains("vcpe-2.efi is installed, and the loader did not start it"), "\(said)")
    }
}
