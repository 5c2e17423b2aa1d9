#!/usr/bin/env bash
# Prints the seconds that trixie's mkosi takes for a disk of the given packages (comma-separated),
# with all packages in its cache. mkosi runs in a separate trixie root, which is kept in the cache.
# Needs root, for that root's mounts.
#   Benchmarks/mkosi.sh PACKAGES SOURCES
set -euo pipefail
packages=$1
sources=$2
root=${XDG_CACHE_HOME:-$HOME/.cache}/vcpe/bench/mkosi
if [ ! -x "$root/usr/bin/mkosi" ]; then
    mkdir -p "$root"
    mmdebstrap --quiet --skip=check/empty --variant=apt \
        --include=mkosi,systemd-repart,systemd,systemd-boot-efi,e2fsprogs,dosfstools,mtools,debian-archive-keyring,mount,uidmap,udev,zstd,cpio,kmod \
        trixie "$root" "$sources" >&2
fi
# Use only the main archive: mkosi would add the debug archive, which few mirrors have.
mirror=$(sed -n 's/^URIs: //p' "$sources" | head -1)
cp /etc/resolv.conf "$root/etc/resolv.conf"
export root packages mirror
unshare --mount --fork bash -euc '
    mount --bind "$root" "$root"
    for name in dev sys; do mount --rbind "/$name" "$root/$name"; done
    mount -t proc proc "$root/proc"
    for name in run tmp; do mount -t tmpfs tmpfs "$root/$name"; done
    cd "$root"
    mkdir -p .old disk cache
    pivot_root . .old
    umount -l /.old
    cd /disk
    export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
    make_disk() {
        mkosi --force --distribution=debian --release=trixie --local-mirror="$mirror" --format=disk --bootable=no \
            --output-directory=/disk --package-cache-directory=/cache --package="$packages" >/disk/log 2>&1 ||
            { tail -20 /disk/log >&2; exit 1; }
    }
    make_disk
    start=$EPOCHREALTIME
    make_disk
    awk -v a="$start" -v b="$EPOCHREALTIME" "BEGIN { printf \"%.3f\n\", b - a }"
'
