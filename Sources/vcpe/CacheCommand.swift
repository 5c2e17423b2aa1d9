import Files
import ArgumentParser
import Documents
import ImageBuilder

struct CacheCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cache",
        abstract: "Show or prune the cache of packages.",
        discussion: """
            The cache is $XDG_CACHE_HOME/vcpe, or ~/.cache/vcpe. Mirrors remove old versions, so the cache keeps \
            old locks buildable. --prune keeps packages that are in a lock of --images, and waits for builds that \
            use the cache.

              vcpe cache --prune --days 90
            """)

    @Flag(help: "Remove files that are in no lock and that were not used for --days.")
    var prune = false

    @Option(help: "Days without use after which a file may be removed.")
    var days = 30

    @Option(help: "The folder with the locks whose packages are kept.")
    var images = "images"

    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        if days < 0 { throw ValidationError("--days \(days): allowed are 0 and more") }
    }

    func run() throws {
        let cache = Cache.standard
        if prune {
            let freed = try cache.prune(keeping: Lock.digests(in: images), days: days) { holder in
                BuildConsole.error("waiting for \(holder.text), which uses the cache")
            }
            print(json ? JSON.object(["freed": .integer(freed)]).line : "freed \(Size.text(freed))")
            return
        }
        let sections = try cache.sections()
        if json {
            let entries = sections.map { section -> JSON in
                ["name": .text(section.name), "files": .integer(section.files), "bytes": .integer(section.size)]
            }
            return print(JSON.object(["path": .text(cache.root), "sections": .list(entries)]).pretty)
        }
        print(cache.root)
        for section in sections {
            print(
                "  \(section.name)\(String(repeating: " ", count: max(1, 12 - section.name.count)))\(section.files) files, \(Size.text(section.size))"
            )
        }
    }
}
