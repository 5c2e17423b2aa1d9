#!/usr/bin/env bash
# Measures the time from the kernel's first console output to the first forwarded packet, for
# branch-office and for a minimal Debian gateway with equivalent rules (systemd, networkd,
# nftables). Both use the same kernel, QEMU and run. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
image=${1:-branch-office}
. Benchmarks/figures.sh
ci/setup mmdebstrap
work=$(mktemp -d /var/tmp/vcpe-boot.XXXXXX)
trap 'rm -rf "$work"' EXIT
vcpe=.build/release/vcpe
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vcpe

# This project's image, with a static WAN address, so that it does not wait for a DHCP server.
mkdir -p "$work/images"
cp -r images/. "$work/images/"
cat >"$work/images/bench.site.yaml" <<'SITE'
network:
  zones: [wan, lan]
  interfaces:
    - {name: wan, zone: wan, port: order 1, ipv4: {addresses: [203.0.113.2/24]}}
    - {name: lan, zone: lan, bridge-ports: [order 2], ipv4: {addresses: [192.168.1.1/24]}}
firewall:
  policies: [{from: lan, to: wan, action: accept}]
nat:
  masquerade: [{from: lan, to: wan}]
SITE
printf 'name: bench\nextends: %s\nsite: bench.site.yaml\noutputs: []\n' "$image" >"$work/images/bench.yaml"
cp "images/$image.lock" "$work/images/bench.lock"
"$vcpe" build bench --images "$work/images" --profile virtio --output "$work/out" >/dev/null 2>&1
objcopy -O binary --only-section=.linux "$work/out/bench/bench.efi" "$work/vmlinuz"
objcopy -O binary --only-section=.cmdline "$work/out/bench/bench.efi" "$work/cmdline"

# The peer: a minimal Debian system of the same suite, as an engineer would configure it by hand.
"$vcpe" lock "$image" --diff >/dev/null 2>&1
sources=$(ls -td "$cache"/apt/trixie-*/etc/vcpe.sources | head -1)
mmdebstrap --quiet --variant=minbase --include=systemd-sysv,nftables,linux-image-cloud-amd64,initramfs-tools \
    --customize-hook='chroot "$1" systemctl enable systemd-networkd nftables >/dev/null 2>&1' \
    trixie "$work/debian" "$sources" >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
for port in "wan 01 203.0.113.2/24" "lan 02 192.168.1.1/24"; do
    read -r name number address <<<"$port"
    printf '[Match]\nMACAddress=52:54:00:00:00:%s\n[Link]\nName=%s\n' "$number" "$name" >"$work/debian/etc/systemd/network/10-$name.link"
    printf '[Match]\nMACAddress=52:54:00:00:00:%s\n[Network]\nAddress=%s\nIPv4Forwarding=yes\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n' \
        "$number" "$address" >"$work/debian/etc/systemd/network/20-$name.network"
done
mkdir -p "$work/debian/etc/sysctl.d"
echo net.ipv4.ip_forward=1 >"$work/debian/etc/sysctl.d/forward.conf"
cat >"$work/debian/etc/nftables.conf" <<'RULES'
flush ruleset
table inet filter {
    chain input { type filter hook input priority 0; policy drop; iifname lo accept; ct state established,related accept; icmp type echo-request accept; }
    chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname lan oifname wan accept; }
    chain postrouting { type nat hook postrouting priority 100; oifname wan masquerade; }
}
RULES
echo 'LABEL=root / ext4 defaults 0 1' >"$work/debian/etc/fstab"
truncate -s 2G "$work/debian.raw"
mke2fs -q -t ext4 -L root -d "$work/debian" "$work/debian.raw"
cp "$work"/debian/boot/vmlinuz-* "$work/debian.vmlinuz"
cp "$work"/debian/boot/initrd.img-* "$work/debian.initrd"

once() {  # kernel initramfs command-line disk
    "$vcpe" boot-time --kernel "$1" --initramfs "$2" --append "$3" --disk "$4" --scratch "$work/run" |
        sed 's/.*"milliseconds":\([0-9]*\).*/\1/'
}
best() {  # of three runs, each with a new copy of the disk
    local best=
    for _ in 1 2 3; do
        cp --sparse=always "$4" "$work/disk.raw"
        local took
        took=$(once "$1" "$2" "$3" "$work/disk.raw")
        if [ -z "$best" ] || [ "$took" -lt "$best" ]; then best=$took; fi
    done
    awk -v m="$best" 'BEGIN { printf "%.2f", m / 1000 }'
}
# Both print kernel messages from the start, because the first one starts the clock.
ours=$(best "$work/vmlinuz" "$work/out/bench/bench.initramfs" "$(tr -d '\0' <"$work/cmdline" | sed 's/quiet loglevel=4/loglevel=6/')" "$work/out/bench/bench.raw")
peer=$(best "$work/debian.vmlinuz" "$work/debian.initrd" "console=ttyS0,115200 loglevel=6 root=LABEL=root ro net.ifnames=0" "$work/debian.raw")
figure "kernel start to first forwarded packet / Debian" "$ours" "$peer" 0.333 s
