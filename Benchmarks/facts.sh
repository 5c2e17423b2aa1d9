#!/usr/bin/env bash
# Measures the time from a fact's change to the kernel's new state, with four plugins: for a lease, from the report to
# the end of the transaction, as a client sees it; for a probe, from its new state to the end of the transaction, as the
# engine logs it. Fifty of each. The aim is 100 ms; the peer is what a DHCP client's script does with ip(8) alone: an
# address and a default route, without a policy. Runs in its own network namespace, in the same run. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/figures.sh
work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

cat >"$work/lease.yaml" <<'YAML'
network:
  zones: [wan, lan]
  interfaces:
    - {name: wan, zone: wan, port: order 1, ipv4: {dhcp: true}}
    - {name: lan, zone: lan, port: order 2, ipv4: {addresses: [192.168.1.1/24]}}
  probes: [{name: web, tcp: {address: 127.0.0.1, port: 8099}, interval: 1, timeout: 1, threshold: 1}]
firewall:
  policies: [{from: lan, to: wan, action: accept}]
nat:
  masquerade: [{from: lan, to: wan}]
  forwards: [{name: web, from: wan, protocol: tcp, ports: 8080, to: 192.168.1.10, to-port: 80}]
lan:
  networks: [{interface: lan, dhcp: {from: 192.168.1.100, to: 192.168.1.199}}]
YAML
cat >"$work/measure.py" <<'PY'
import json, socket, statistics, subprocess, sys, time
run, aim = sys.argv[1], 50
def ask(path, request):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall((json.dumps(request) + "\n").encode())
    answer = b""
    while not answer.endswith(b"\n"):
        part = s.recv(65536)
        if not part: break
        answer += part
    answer = json.loads(answer)
    if "error" in answer: sys.exit(answer["error"])
    return answer
ours, peer = [], []
for i in range(aim):
    address = f"203.0.113.{77 + i % 2}/24"
    begin = time.monotonic()
    ask(run + "/report.sock", {"collection": "leases", "name": "wan", "made": int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000),
        "value": {"address": address, "gateway": "203.0.113.1"}})
    # The engine applies what was reported before it answers the next request.
    ask(run + "/engine.sock", {"do": "status"})
    ours.append(time.monotonic() - begin)
    if address not in subprocess.run(["ip", "-4", "addr", "show", "dev", "wan"], capture_output=True, text=True).stdout:
        sys.exit("the kernel does not have " + address)
for i in range(aim):
    begin = time.monotonic()
    subprocess.run(["sh", "-c", f"ip addr flush dev p0; ip addr add 198.51.100.{77 + i % 2}/24 dev p0 && ip route replace 198.18.0.0/15 via 198.51.100.1"], check=True)
    peer.append(time.monotonic() - begin)
for name, times in (("lease", ours), ("peer", peer)):
    print(name, f"{statistics.median(times):.4f}", f"{max(times):.4f}")
PY
cat >"$work/box" <<'SH'
set -eu
work=$1
. Benchmarks/box.sh
ip link set p0 up
# A plugin that plans by the probe's state.
mkdir "$work/plugins/reader"
cat >"$work/plugins/reader/reader" <<'PLUGIN'
#!/bin/sh
input=$(cat)
[ "$1" = plan ] || exit 0
case $input in *'"passes":true'*) value=60 ;; *) value=61 ;; esac
echo '{"id":"net/ipv4/tcp_fin_timeout","kind":"sysctl","value":"'$value'"}'
PLUGIN
chmod 755 "$work/plugins/reader/reader"
cat >"$work/plugins/reader/manifest.json" <<'JSON'
{"name": "reader", "version": "1", "summary": "of a benchmark", "contract": 1, "key": "reader", "yang": "none", "features": [],
 "publishes": [], "reads": [], "facts": ["probes"], "resources": ["sysctl"]}
JSON
timeout 60 "$work/vcpectl" apply "$work/lease.yaml" >"$work/said" || { cat "$work/said" >&2; exit 1; }
python3 "$work/measure.py" "$work/run" >"$work/figures"
kill "$engine"; wait "$engine" || true
# The new plugin, from the next start on.
echo 'reader: {}' >>"$work/lease.yaml"
cp "$work/lease.yaml" "$work/site.yaml"
rm -rf "$work/data/vcpe/commits"
ip link set lo up
"$work/vcpe-engine" --run "$work/run" --data "$work/data" --plugins "$work/plugins" --factory-site "$work/site.yaml" \
    --modprobe /bin/true --devices "$work" >"$work/log" 2>&1 </dev/null &
engine=$!
python3 - "$work/log" <<'PY'
import re, socket, sys, time
listener, seen, end = None, 0, time.monotonic() + 240
# A probe is tried each second; each change of its state is logged, and the transaction after it.
while time.monotonic() < end:
    text = open(sys.argv[1]).read()
    changes = len(re.findall(r"probe network\.web (?:fails|passes)", text))
    if changes >= 52: break
    if changes != seen or listener is None and changes == 0 and "is applied" in text:
        seen = changes
        if listener is None:
            listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 8099)); listener.listen(64)
        else:
            listener.close(); listener = None
    time.sleep(0.05)
PY
kill "$engine"; wait "$engine" || true
awk '/probe network.web/ { armed = 1 } /is applied: planned in/ && armed { match($0, /planned in [0-9]+/); p = substr($0, RSTART + 11, RLENGTH - 11); match($0, /applied in [0-9]+/); print (p + substr($0, RSTART + 11, RLENGTH - 11)) / 1000; armed = 0 }' "$work/log" |
    sort -g >"$work/probe"
SH
timeout 600 unshare --net --mount bash "$work/box" "$work" </dev/null
count=$(wc -l <"$work/probe")
[ "$count" -ge 50 ] || { echo "error: $count changes of the probe, 50 are needed" >&2; exit 1; }
read -r _ median worst < <(grep ^lease "$work/figures")
read -r _ peer peer_worst < <(grep ^peer "$work/figures")
figure "a lease in the kernel, median of 50 / ip(8) by a script" "$median" "$peer" 10 s
figure "a lease in the kernel, worst of 50 / ip(8) by a script" "$worst" "$peer_worst" 10 s
figure "a lease in the kernel, median of 50 / 100 ms" "$median" 0.1 1 s
figure "a lease in the kernel, worst of 50 / 100 ms" "$worst" 0.1 1 s
figure "a probe's state in the kernel, median of 50 / 100 ms" "$(sed -n "$((count / 2))p" "$work/probe")" 0.1 1 s
figure "a probe's state in the kernel, worst of 50 / 100 ms" "$(tail -1 "$work/probe")" 0.1 1 s
