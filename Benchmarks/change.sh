#!/usr/bin/env bash
# Measures a change of one rule among 10,000 through the whole path of the engine (vcpectl apply:
# decode, publish, plan, diff, check, keep, apply), its diff and apply alone, and a cold load. Then
# measures the same for a list of 100,000 networks. The peer is nft -f of the same rules. Runs in
# its own network namespace, on the same machine, in the same run. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/figures.sh
rules=10000
work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

site() {  # ACTION of the rule in the middle
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
# The same policy as an engineer writes it for nft, rule by rule.
{
    echo 'table inet peer { chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept'
    awk -v n="$rules" 'BEGIN { for (i = 0; i < n; i++) printf "    iifname lan oifname wan ip saddr 10.0.%d.%d ip daddr 198.18.%d.%d tcp dport %d counter accept\n", i / 256, i % 256, i / 256, i % 256, 1000 + i }'
    printf '  }\n}\n'
} >"$work/rules.nft"
# A list of 100,000 networks, and one without the last.
networks() { awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf "%s%d.%d.%d.0/24", i ? ", " : "", 20 + i / 32768, i / 128 % 256, i * 2 % 256 }'; }
for n in 100000 99999; do
    {
        site accept | sed -n '1,/^  rules:/p'
        echo '    - {name: listed, from: wan, to: any, source: ["@list"], action: drop}'
        echo "  sets: [{name: list, members: [$(networks $n)]}]"
    } >"$work/set-$n.yaml"
done
printf 'table inet peer {\n set networks {\n  type ipv4_addr\n  flags interval\n  elements = { %s }\n }\n}\n' "$(networks 100000)" >"$work/set.nft"

cat >"$work/box" <<'SH'
set -eu
work=$1
. Benchmarks/box.sh
memory() { awk '/VmRSS/ { print $2 * 1024 }' "/proc/$engine/status"; }
memory >"$work/idle"
seconds timeout 60 "$work/vcpectl" apply "$work/a.yaml" >"$work/cold"
for file in b a b a b; do seconds timeout 60 "$work/vcpectl" apply "$work/$file.yaml"; done | sort | head -1 >"$work/change"
"$work/vcpectl" history --json | awk -F'[:,]' '/apply-milliseconds/ { print $2 / 1000 }' | head -5 | sort -g | head -1 >"$work/apply"
seconds timeout 60 "$work/vcpectl" apply "$work/set-100000.yaml" >"$work/set-cold"
for n in 99999 100000 99999; do seconds timeout 60 "$work/vcpectl" apply "$work/set-$n.yaml"; done | sort | head -1 >"$work/set-change"
"$work/vcpectl" history --json | awk -F'[:,]' '/apply-milliseconds/ { print $2 / 1000 }' | head -3 | sort -g | head -1 >"$work/set-apply"
# The same list, filled by a feed instead of the document.
sed 's/members: .*/fed: true}]/' "$work/set-100000.yaml" >"$work/fed.yaml"
timeout 60 "$work/vcpectl" apply "$work/fed.yaml" >/dev/null
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "%d.%d.%d.0/24\n", 20 + i / 32768, i / 128 % 256, i * 2 % 256 }' >"$work/list"
seconds timeout 60 "$work/vcpectl" feed firewall.set.list load "$work/list" >"$work/feed-cold"
for i in 1 2 3 4 5; do seconds timeout 60 "$work/vcpectl" feed firewall.set.list add 9.9.$i.0/24; done | sort | head -1 >"$work/feed-change"
kill "$engine"
wait "$engine" || true
SH
timeout 300 unshare --net --mount bash "$work/box" "$work" </dev/null
# The peer loads the whole file into an empty kernel, so it does not even have to remove old rules.
nft_file() { for _ in 1 2 3; do timeout 60 unshare --net bash -c "
    start=\$EPOCHREALTIME; nft -f '$1' || exit 1; awk -v a=\"\$start\" -v b=\"\$EPOCHREALTIME\" 'BEGIN { printf \"%.3f\n\", b - a }'"; done | sort | head -1; }
peer=$(nft_file "$work/rules.nft")
figure "one rule of 10,000, whole path / nft -f of all" "$(cat "$work/change")" "$peer" 0.5 s
figure "its diff and apply / nft -f of all" "$(cat "$work/apply")" "$peer" 0.05 s
figure "cold load of 10,000 rules, whole path / nft -f" "$(cat "$work/cold")" "$peer" 3.5 s
peer=$(nft_file "$work/set.nft")
figure "one of 100,000 networks, whole path / nft -f of all" "$(cat "$work/set-change")" "$peer" 0.5 s
figure "its diff and apply / nft -f of all" "$(cat "$work/set-apply")" "$peer" 0.05 s
figure "cold load of 100,000 networks, whole path / nft -f" "$(cat "$work/set-cold")" "$peer" 3.5 s
figure "one of 100,000 networks of a feed, whole path / nft -f of all" "$(cat "$work/feed-change")" "$peer" 0.5 s
figure "cold load of a feed of 100,000, whole path / nft -f" "$(cat "$work/feed-cold")" "$peer" 3.5 s
figure "idle engine / 30 MB" "$(cat "$work/idle")" 30000000 1.0 B
