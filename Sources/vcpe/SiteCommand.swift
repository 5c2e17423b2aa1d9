import ArgumentParser
import Documents
import ImageBuilder
import Planning
import PluginKit

struct SiteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "site", abstract: "Check site documents without a box.",
        discussion: """
              vcpe site check site.yaml --image branch-office
            """, subcommands: [Check.self])

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check whether a box with an image can apply a site document.",
            discussion: """
                Plans the document with the plugins of an image, using the executable that runs on the box, \
                and lists the resources that the box would apply: packet filter, links, addresses, routes, \
                files and services. Every program that the plan needs must be in the image. The check does \
                not know the ports of the box: it assumes eight, and lists references to others.

                  vcpe site check site.yaml --image branch-office --explain

                Exit codes: 0 the document can be applied; 1 it cannot, and every problem is shown with file, \
                line and column.
                """)

        @Argument(help: "The site document.")
        var file: String

        @Option(name: .customLong("image"), help: "The image whose plugins plan the document.")
        var name: String

        @OptionGroup var image: ImageOptions

        @Option(help: "The hardware profile. Default: the image's first.")
        var profile: String?

        @Option(help: "The folder of the box's own executables.")
        var box = ".build/box"

        @Flag(
            help:
                "Report how rules were compiled: into one lookup, without effect, or in conflict with others.")
        var explain = false

        @Flag(help: "Print the plan's lines and remarks as JSON, and the packet filter as nft -j -f reads it.")
        var json = false

        func run() async throws {
            var options = ImageBuild.Options()
            options.images = image.images
            options.mirror = image.mirror
            options.securityMirror = image.securityMirror
            options.profile = profile
            options.box = box
            let plan = try await ImageBuild(name, options: options) { _ in }.check(site: file, explains: explain)
            let remarks = (plan.absent + plan.warnings).sorted()
            if json {
                let document: JSON = [
                    "lines": .texts(plan.lines), "remarks": .texts(remarks), "notes": .texts(plan.notes),
                    "nftables": TablePlan(plan.filter).contents.document(table: PacketPath.table),
                ]
                return print(document.pretty, terminator: "")
            }
            for remark in remarks + plan.notes { print(remark) }
            let rows = plan.resources.values.map { ($0.resource.kind, $0.resource.identity, $0.plugin) }
            for (kind, identity, plugin) in rows.sorted(by: { $0 < $1 }) {
                func left(_ text: String, _ width: Int) -> String {
                    text + String(repeating: " ", count: max(1, width - text.count))
                }
                print("\(left(kind, 14))\(left(identity, 50))\(plugin)")
            }
            print("\(file) can be applied: \(rows.count) resources")
        }
    }
}
