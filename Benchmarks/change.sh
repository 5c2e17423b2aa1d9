#!/usr/bin/env bash
# Times a change of one rule in a policy of 10,000 through the whole path of the engine (vcpectl apply: decode, publish, plan,
# diff, check, keep, apply), its diff and apply alone, and a cold load, beside nft -f of the same ruleset. In a network of its
# own, same machine, same run. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/figures.sh
rules=10000
work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

site() {  # with the given action of one rule in the middle
    cat <<YAML
network:
  zones: [wan, lan]
  interfaces:
    - {name: wan, zone: wan, port: order 1, ipv4: {addresses: [203.0.113.2/24]}}
    - {name: lan, zone: lan, port: order 2, ipv4: {addresses: [192.168.1.1/24]}}
firewall:
  policies:
    - {from: lan, to: wan, action: accept}
  rules:
YAML
    awk -v n="$rules" -v action="$1" 'BEGIN { for (i = 0; i < n; i++) printf "    - {name: r%d, from: lan, to: wan, protocol: tcp, ports: [%d], source: [10.0.%d.%d], destination: [198.18.%d.%d], action: %s}\n", i, 1000 + i, i / 256, i % 256, i / 256, i % 256, i == n / 2 ? action : "accept" }'
}
site accept >"$work/a.yaml"
site drop >"$work/b.yaml"

cat >"$work/box" <<'SH'
set -eu
work=$1
seconds() { start=$EPOCHREALTIME; "$@" >"$work/said" || { cat "$work/said" >&2; exit 1; }; awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", b - a }'; }
. Benchmarks/box.sh
memory() { awk '/VmRSS/ { print $2 * 1024 }' "/proc/$engine/status"; }
memory >"$work/idle"
seconds timeout 60 "$work/vcpectl" apply "$work/a.yaml" >"$work/cold"
for file in b a b a b; do seconds timeout 60 "$work/vcpectl" apply "$work/$file.yaml"; done | sort | head -1 >"$work/change"
"$work/vcpectl" history --json | awk -F'[:,]' '/apply-milliseconds/ { print $2 / 1000 }' | head -5 | sort -g | head -1 >"$work/apply"
nft list ruleset | grep -v 'flags owner' >"$work/all.nft"
kill "$engine"
wait "$engine" || true
SH
timeout 300 unshare --net --mount bash "$work/box" "$work" </dev/null
# As a whole file into an empty kernel, and over what stands, as a reload does.
nft_file() { timeout 60 unshare --net bash -c "
    start=\$EPOCHREALTIME; nft -f '$work/all.nft'; awk -v a=\"\$start\" -v b=\"\$EPOCHREALTIME\" 'BEGIN { printf \"%.3f\n\", b - a }'"; }
peer=$(for _ in 1 2 3; do nft_file; done | sort | head -1)
figure "one rule of 10,000, whole path / nft -f of all" "$(cat "$work/change")" "$peer" 1.0 s
figure "its diff and apply / nft -f of all" "$(cat "$work/apply")" "$peer" 0.1 s
figure "cold load of 10,000 rules, whole path / nft -f" "$(cat "$work/cold")" "$peer" 3.5 s
figure "idle engine / 30 MB" "$(cat "$work/idle")" 30000000 1.0 B
