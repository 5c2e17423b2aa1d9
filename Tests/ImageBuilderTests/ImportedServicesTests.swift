import Documents
import ImageBuilder
import Testing

/// Units of systemd as units of PID 1.
@Suite final class ImportedServicesTests: ComposedImage {
    @Test func servicesAreTakenFromSystemdUnits() async throws {
        let daemon = try package(
            "daemon",
            """
            mkdir -p usr/lib/sysusers.d usr/sbin usr/libexec etc/default usr/lib/systemd/system/web.service.d
            printf 'u web -\\ng logs -\\nm web logs\\n' > usr/lib/sysusers.d/daemon.conf
            printf '# comment\\nOPTIONS="-a  b" \\nLEVEL=2\\n' > etc/default/web
            for name in sbin/web libexec/prepare sbin/pppd; do echo x > usr/$name; chmod 755 usr/$name; done
            cat > usr/lib/systemd/system/web.service <<'END'
            [Unit]
            Description=x
            After=network-online.target dialler.service
            ConditionPathExists=!/etc/web/off
            [Service]
            Type=forking
            PIDFile=web.pid
            EnvironmentFile=-/etc/default/none
            EnvironmentFile=/etc/default/web
            Environment="GREETING=hello there" COLOUR=red
            ExecStartPre=-+/usr/libexec/prepare \\
                --in ${STATE_DIRECTORY}
            ExecStart=
            ExecStart=@/usr/sbin/web other-name $OPTIONS --level=${LEVEL} --cost=$$5 'two words' $NONE %p
            User=web
            RuntimeDirectory=web
            RuntimeDirectoryMode=0750
            StateDirectory=web
            AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW
            LimitNOFILE=1024:4096
            Restart=on-abnormal
            TimeoutStopSec=1min 5s
            KillSignal=SIGQUIT
            UMask=0027
            ProtectSystem=strict
            ExecStartPost=-/usr/libexec/prepare --out
            ExecStopPost=/bin/true
            END
            printf '[Service]\\nNoNewPrivileges=yes\\n' > usr/lib/systemd/system/web.service.d/10-more.conf
            cat > usr/lib/systemd/system/dial@.service <<'END'
            [Service]
            Type=oneshot
            DynamicUser=yes
            StateDirectory=dial/%i
            ExecStart=/usr/libexec/prepare
            ExecStart=pppd call %i
            END
            """)
        var lock = Lock()
        (lock.users, lock.groups) = (["web": 417, "dial": 418], ["web": 417, "logs": 101, "dial": 418])
        let result = try await compose(
            [daemon],
            definition: """
                services:
                  w: {unit: web.service, environment: {COLOUR: blue}, directories: [/run/more]}
                  dialler: {unit: dial@office.service, restart: on-failure}

                """, lock: lock)
        let tree = result.tree
        #expect(
            try text(tree, "usr/lib/vcpe/units/w") == """
                command /usr/sbin/web -a b --level=2 --cost=$5 two\\ words web
                before -+/usr/libexec/prepare --in /var/lib/web
                after-start -/usr/libexec/prepare --out
                condition !exists /etc/web/off
                user 417
                group 417
                groups 101
                umask 27
                capabilities net_bind_service net_raw
                no-new-privileges
                directory /run/more
                environment COLOUR=blue
                environment GREETING=hello there
                environment HOME=/
                environment LEVEL=2
                environment LOGNAME=web
                environment OPTIONS=-a  b
                environment PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
                environment RUNTIME_DIRECTORY=/run/web
                environment SHELL=/usr/sbin/nologin
                environment STATE_DIRECTORY=/var/lib/web
                environment USER=web
                limit nofile 4096
                ready forked /run/web.pid
                restart on-failure
                stop-signal QUIT
                stop-all
                stop-timeout 65

                """)
        let dialler = try #require(try text(tree, "usr/lib/vcpe/units/dialler"))
        #expect(
            dialler.hasPrefix(
                "command /usr/sbin/pppd call office\nbefore /usr/libexec/prepare\nuser 418\ngroup 418\n")
                && dialler.contains("\nonce\n"))
        #expect(tree["run/web"]?.mode == 0o750 && tree["run/web"]?.uid == 417)
        #expect(tree["var/lib/dial/office"]?.uid == 418)
        let remarks = result.remarks.filter { $0.hasPrefix("service w, /usr/lib/systemd/system/web.service: ") }
        #expect(remarks.count == 2 && remarks.contains { $0.contains("ExecStopPost") }, "\(remarks)")
        #expect(remarks.contains { $0.contains("ProtectSystem") })

        // What systemd's own documentation and Debian's units have, and PID 1's words for it.
        func lines(_ unit: String, _ more: [String: String] = [:]) async throws -> [String] {
            let files = ([("/etc/systemd/system/x.service", unit)] + more.map { ($0.key, $0.value) }).map {
                "  \($0.0): {content: \(JSON.text($0.1).line)}\n"
            }.joined()
            let tree = try await compose(
                [daemon], definition: "files:\n\(files)services: {x: {unit: x.service}}\n", lock: lock
            ).tree
            return try text(tree, "usr/lib/vcpe/units/x")?.split(separator: "\n").map(String.init) ?? []
        }
        let never = try await lines(
            "[Service]\r\nUser=web\r\nExecStart=!/usr/sbin/web a\\sb ';' \\; c\\.d\r\nTimeoutStartSec=0\r\n")
        #expect(never.first == "command /usr/sbin/web a\\ b ; ; c\\\\.d" && !never.contains("user 417"), "\(never)")
        #expect(
            never.contains("ready-timeout 86400") && never.contains("stop-timeout 90") && never.contains("stop-all"))
        let bounded = try await lines(
            "[Service]\nExecStart=/usr/sbin/web\nExecStartPre=-nothing\nExecStartPost=/usr/sbin/web ${MAINPID} $MAINPID\n"
                + "CapabilityBoundingSet=\nLimitNOFILE=infinity\nKillMode=mixed\nRemainAfterExit=yes\n",
            ["/etc/systemd/system/x.service.d/a.conf": "[Service]\nTimeoutStopSec=3\nEnvironment=PATH=/x\n"])
        #expect(bounded.contains("capabilities") && bounded.contains("limit nofile 1048576"), "\(bounded)")
        #expect(bounded.contains("after-start /usr/sbin/web ${MAINPID} ${MAINPID}"))
        #expect(!bounded.contains { $0.hasPrefix("before") || $0 == "stop-all" })
        #expect(bounded.contains("restart never") && bounded.contains("stop-timeout 3"))
        #expect(bounded.contains("environment PATH=/x"))
        await #expect {
            try await compose(
                [daemon],
                definition:
                    "files: {/etc/systemd/system/web.service: {link: /dev/null}}\nservices: {x: {unit: web.service}}\n",
                lock: lock)
        } throws: { "\($0)".contains("there is no unit web.service") }
        await #expect {
            try await lines("[Service]\nExecStart=/usr/sbin/web\nExecStartPre=/usr/bin/none\n")
        } throws: { "\($0)".contains("there is no program /usr/bin/none") }

        let wrong = [
            "{unit: gone.service}": "there is no unit gone.service",
            "{unit: web.service, command: [/usr/sbin/web]}": "both command and unit",
            "{user: web}": "neither command nor unit",
            "{unit: dial@.service}": "allowed is a service unit's name",
        ]
        for (line, message) in wrong {
            await #expect {
                _ = try await compose([daemon], definition: "services:\n  s: \(line)\n", lock: lock)
            } throws: { error in "\(error)".contains(message) && "\(error)".contains("box.yaml:6:") }
        }
    }
}
