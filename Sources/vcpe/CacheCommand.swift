import Files
import ArgumentParser
import Documents
import ImageBuilder

struct CacheCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cache",
        abstract: "Show or prune the cache of packages.",
        discussion: """
            The cache is $XDG_CACHE_HOME/vcpe, or ~/.cache/vcpe. Mirrors remove old versions: a lock stays buildable \
            by the packages that the cache holds. Packages that a lock in --images names are never pruned. A build \
            that runs is waited for.
            """)

    @Flag(help: "Remove files that no lock names and that were not used for --days.")
    var prune = false

    @Option(help: "Days without use after which a file may be removed.")
    var days = 30

    @Option(help: "The folder whose locks' packages are kept.")
    var images = "images"

    @Flag(help: "As JSON.")
    var json = false

    func validate() throws {
        if days < 0 { throw ValidationError("--days \(days): allowed is a number from 0 up") }
    }

    func run() throws {
        let cache = Cache.standard
        if prune {
            let freed = try cache.prune(keeping: Lock.digests(in: images), days: days) { holder in
                Console.error("waits for \(holder.text), which uses the cache")
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
