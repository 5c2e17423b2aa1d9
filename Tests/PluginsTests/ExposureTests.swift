import Documents
import Files
import Glibc
import PluginKit
import Testing
import Units

/// What each of our services could do if it were taken over, as docs/security.md has it.
@Suite struct ExposureTests {
    /// The services that the plugins' cases plan, by their names.
    static func services() throws -> [ServiceResource] {
        var services: [String: ServiceResource] = [:]
        for plugin in try FileSystem.list(GoldenTests.folder).sorted() {
            let cases = "\(GoldenTests.folder)/\(plugin)/cases"
            guard FileSystem.isDirectory(cases) else { continue }
            for name in try FileSystem.list(cases).sorted() where name.hasSuffix(".plan") {
                let text = String(decoding: try FileSystem.read("\(cases)/\(name)"), as: UTF8.self)
                for line in text.split(separator: "\n") where line.contains("\"kind\":\"service\"") {
                    let resource = try Resource(try JSON.parse(String(line)))
                    if let service = resource.as(ServiceResource.self) { services[service.name] = service }
                }
            }
        }
        return services.values.sorted { $0.name < $1.name }
    }

    private static func unit(_ service: ServiceResource) -> Unit {
        var unit = service.unit
        // Any number but 0 will do.
        unit.user = service.user == "root" ? 0 : 1
        return unit
    }

    @Test func theDocumentedTableIsThatOfThePlans() throws {
        let lines = try Self.services().map { service in
            let exposure = Self.unit(service).exposure
            let reasons = exposure.reasons.filter { $0 != "user 0" }.joined(separator: ", ")
            return "| `\(service.name)` | \(service.user) | \(exposure.score) | \(reasons) |\n"
        }
        let path = "\(GoldenTests.repository)/docs/security.md"
        let text = String(decoding: try FileSystem.read(path), as: UTF8.self)
        let head = "|---|---|---|---|\n"
        let begin = try #require(text.firstRange(of: head)?.upperBound)
        let end = try #require(text.firstRange(of: "<!-- end -->")?.lowerBound)
        if getenv("VCPE_WRITE_GOLDEN") != nil {
            try FileSystem.replace(path, with: text[..<begin] + lines.joined() + text[end...])
        } else {
            #expect(String(text[begin..<end]) == lines.joined())
        }
    }

    /// A service that needs root says why, in docs/security.md; this list is part of that decision.
    @Test func fewServicesAreRootAndAllAreStrict() throws {
        let services = try Self.services()
        #expect(services.count >= 8)
        let root = Set(
            services.filter { $0.user == "root" }.map { $0.name.split(separator: "-").prefix(2).joined(separator: "-") }
        )
        #expect(root == ["network-dhcp", "system-sshd", "system-console", "upgrade-updater"])
        for service in services {
            #expect(service.unit.profile != nil && service.unit.memory != nil && service.unit.processes != nil)
            let isUpdater = service.name == "upgrade-updater"
            #expect(Self.unit(service).exposure.score <= (isUpdater ? 85 : 50), "\(service.name)")
        }
    }
}
