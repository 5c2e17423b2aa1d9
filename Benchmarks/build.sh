#!/usr/bin/env bash
# Measures a build from the lock to the raw disk with cached packages. The peers are mmdebstrap,
# which makes a root tarball of the same packages (also cached), and trixie's mkosi, which makes a
# disk of them. Same machine, same run.
set -euo pipefail
cd "$(dirname "$0")/.."
image=${1:-branch-office}
. Benchmarks/figures.sh
rounds=${2:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vcpe

seconds() {  # the duration of the fastest of several rounds
    local best=
    for _ in $(seq "$rounds"); do
        local start=$EPOCHREALTIME
        "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }
        local took
        took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }')
        best=$(awk -v a="$took" -v b="${best:-9999}" 'BEGIN { print a < b ? a : b }')
    done
    echo "$best"
}

ours() {
    rm -rf "$work/out"
    .build/release/vcpe build "$image" --profile virtio --output "$work/out"
}

unpacking() {  # only the .debs are cached
    rm -rf "$work/out" "$work/cache"
    mkdir -p "$work/cache/vcpe"
    ln -s "$cache/debs" "$work/cache/vcpe/debs"
    XDG_CACHE_HOME=$work/cache .build/release/vcpe build "$image" --profile virtio --output "$work/out"
}

unchanged() { .build/release/vcpe build "$image" --profile virtio --output "$work/out"; }

ours >/dev/null 2>&1
# The same packages, with the file names of apt's cache.
packages=$(sed -n '/^  virtio:/,/^  [^ -]/s/.*{name: \([^,]*\),.*/\1/p' "images/$image.lock" | paste -sd,)
mkdir -p "$work/archives"
sed -n '/^  virtio:/,/^  [^ -]/s/.*name: \([^,]*\), version: "\([^"]*\)", architecture: \([^,]*\),.*sha256: \([^,]*\),.*/\1 \2 \3 \4/p' \
    "images/$image.lock" | while read -r name version architecture digest; do
    cp "$cache/debs/$digest.deb" "$work/archives/${name}_${version//:/%3a}_$architecture.deb"
done
# Resolving writes the host's mirror to vcpe.sources.
.build/release/vcpe lock "$image" --diff >/dev/null 2>&1
apt_root=$(ls -td "$cache"/apt/trixie-*/etc/vcpe.sources | head -1)

mmdebstrap_tar() {
    mmdebstrap --variant=extract --include="$packages" --architectures=amd64 --mode="$([ "$(id -u)" = 0 ] && echo root || echo unshare)" \
        --aptopt='Apt::Install-Recommends "false"' --skip=check/empty \
        --setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
        --setup-hook="cp $work/archives/*.deb \"\$1/var/cache/apt/archives/\"" \
        trixie "$work/root.tar" "$apt_root"
}

warm=$(seconds ours)
cold=$(seconds unpacking)
ours >/dev/null 2>&1
none=$(seconds unchanged)
peer=$(rounds=1 seconds mmdebstrap_tar)
figure "warm build to raw disk / mmdebstrap tarball" "$warm" "$peer" 0.2 s
figure "build that unpacks all .debs / mmdebstrap tarball" "$cold" "$peer" 1.0 s
figure "unchanged build / half a second" "$none" 0.5 1.0 s
if [ "$(id -u)" = 0 ]; then
    # Without the security archive the kernel's package has another name, so only the metapackage
    # that depends on it is listed.
    took=$(Benchmarks/mkosi.sh "$(tr , '\n' <<<"$packages" | grep -v '^linux-image-[0-9]' | paste -sd,)" "$apt_root")
    figure "warm build to raw disk / mkosi disk" "$warm" "$took" 0.2 s
else
    echo "not root: mkosi is not compared"
fi
