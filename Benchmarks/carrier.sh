#!/usr/bin/env bash
# Measures the load of 65,536 subscribers of carrier-grade NAT through the whole path of the engine
# (vcpectl apply), compared with nft -f of the same map, and the lookup of a port's subscriber. Runs
# in its own network namespace. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/figures.sh
work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
cat >"$work/carrier.yaml" <<'YAML'
network:
  zones: [wan, access]
  interfaces:
    - {name: wan, zone: wan, port: order 1, ipv4: {addresses: [203.0.113.2/24]}}
    - {name: access, zone: access, port: order 2, ipv4: {addresses: [100.127.255.1/24]}}
firewall:
  policies:
    - {from: access, to: wan, action: accept}
nat:
  carrier-grade:
    - {name: homes, from: access, to: wan, subscribers: [100.64.0.0/16], pool: [198.18.0.0/22], ports-per-subscriber: 1000}
YAML
sed 's/subscribers: \[100.64.0.0\/16\]/subscribers: [100.64.0.0-100.64.255.254]/' "$work/carrier.yaml" >"$work/less.yaml"
{
    printf 'table inet peer {\n map blocks { type ipv4_addr : interval ipv4_addr . inet_service; elements = {\n'
    awk 'BEGIN { for (i = 0; i < 65536; i++) { a = int(i / 64); p = 1024 + (i % 64) * 1000; printf "%s100.64.%d.%d : 198.18.%d.%d . %d-%d", i ? ",\n" : "", i / 256, i % 256, a / 256, a % 256, p, p + 999 } }'
    printf ' }\n }\n}\n'
} >"$work/blocks.nft"
cat >"$work/box" <<'SH'
set -eu
work=$1
. Benchmarks/box.sh
seconds timeout 60 "$work/vcpectl" apply "$work/carrier.yaml" >"$work/cold"
for file in less carrier less; do seconds timeout 60 "$work/vcpectl" apply "$work/$file.yaml"; done | sort | head -1 >"$work/change"
for _ in $(seq 20); do seconds "$work/vcpectl" nat who 198.18.3.255 64000; done | sort | head -10 | tail -1 >"$work/who"
grep -q 100.64.255. "$work/said"
kill "$engine"
wait "$engine" || true
SH
timeout 300 unshare --net --mount bash "$work/box" "$work" </dev/null
peer=$(for _ in 1 2 3; do timeout 60 unshare --net bash -c "
    start=\$EPOCHREALTIME; nft -f '$work/blocks.nft' || exit 1; awk -v a=\"\$start\" -v b=\"\$EPOCHREALTIME\" 'BEGIN { printf \"%.4f\n\", b - a }'"; done | sort | head -1)
figure "65,536 subscribers, whole path / nft -f of the map" "$(cat "$work/cold")" "$peer" 3.5 s
figure "65,536 subscribers, whole path / 2 s" "$(cat "$work/cold")" 2 1.0 s
figure "one subscriber of 65,536 goes, whole path / 2 s" "$(cat "$work/change")" 2 1.0 s
figure "whose a port is, whole command / 1 ms" "$(cat "$work/who")" 0.001 1.0 s
