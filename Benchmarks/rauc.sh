#!/usr/bin/env bash
# Prints the bytes that trixie's RAUC fetches to upgrade from one build to another, as RAUC counts
# them. It runs an adaptive update (block-hash-index) of root and UKI, streamed by HTTP from a
# bundle. Streaming needs nbd and dm-verity, so it runs in an emulated machine with Debian's kernel.
# Needs root, for the tree in which it makes bundles and from which it boots; the tree is kept in
# the cache.
#   Benchmarks/rauc.sh OLD NEW          (each the path of a build's files without .root and .efi)
set -euo pipefail
old=$1
new=$2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vcpe
tree=$cache/bench/rauc
work=$(mktemp -d /var/tmp/vcpe-rauc.XXXXXX)
trap 'rm -rf "$work"' EXIT
if [ ! -e "$tree/complete" ]; then
    rm -rf "$tree"
    mkdir -p "$tree"
    sources=$(ls -td "$cache"/apt/trixie-*/etc/vcpe.sources | head -1)
    mmdebstrap --quiet --skip=check/empty --variant=apt \
        --include=rauc,rauc-service,dbus,squashfs-tools,openssl,busybox-static,kmod,linux-image-amd64 trixie "$tree" "$sources" >&2
    touch "$tree/complete"
fi

# Pad the files to whole blocks, which the index requires.
place=$work/bundle
mkdir -p "$place"
for part in root efi; do
    for which in old new; do
        cp "${!which}.$part" "$work/$which.$part"
        truncate -s %4096 "$work/$which.$part"
    done
    cp "$work/new.$part" "$place/$part.img"
    truncate -s "$(stat -c %s "$work/new.$part")" "$work/slot.$part"
done
cat >"$place/manifest.raucm" <<'MANIFEST'
[update]
compatible=bench
version=2

[bundle]
format=verity

[image.root]
filename=root.img
adaptive=block-hash-index

[image.efi]
filename=efi.img
adaptive=block-hash-index
MANIFEST
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=bench -keyout "$work/key.pem" \
    -out "$work/cert.pem" 2>/dev/null
# Make the bundle in the separate root, where $work is /mnt.
export tree work
unshare --mount --fork bash -euc '
    mount --bind "$work" "$tree/mnt"
    mount --rbind /dev "$tree/dev"
    mount -t proc proc "$tree/proc"
    chroot "$tree" rauc bundle --cert=/mnt/cert.pem --key=/mnt/key.pem \
        --mksquashfs-args="-comp zstd -Xcompression-level 19 -b 64K" /mnt/bundle /mnt/update.raucb
' >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

# An initramfs that installs the update and powers off.
mkdir -p "$work/top/etc/rauc"
cp "$work/cert.pem" "$work/top/etc/rauc/"
cat >"$work/top/etc/rauc/system.conf" <<'CONF'
[system]
compatible=bench
bootloader=noop
data-directory=/data
bundle-formats=verity

[keyring]
path=/etc/rauc/cert.pem

[slot.root.0]
device=/dev/vda
bootname=A

[slot.root.1]
device=/dev/vdb
bootname=B

[slot.efi.0]
device=/dev/vdc
parent=root.0

[slot.efi.1]
device=/dev/vdd
parent=root.1
CONF
cat >"$work/top/init" <<'INIT'
#!/usr/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mkdir -p /run/dbus /data /mnt/rauc
. /modules
busybox ip link set lo up
busybox ip link set eth0 up
busybox ip address add 10.0.2.15/24 dev eth0
dbus-daemon --system
rauc service >/run/log 2>&1 &
for i in 1 2 3 4 5 6 7 8 9 10; do rauc status >/dev/null 2>&1 && break; sleep 1; done
rauc install http://10.0.2.100/update.raucb
echo "the install ended with $?"
cat /run/log
sync
busybox poweroff -f
INIT
chmod 755 "$work/top/init"
kernel=$(ls "$tree"/boot/vmlinuz-* | head -1)
release=${kernel##*vmlinuz-}
modules="virtio_pci virtio_blk virtio_net loop squashfs dm_verity nbd"
echo "for name in $modules; do /usr/sbin/modprobe \$name; done" >"$work/top/modules"
(
    cd "$tree"
    # Include only the required modules and parts of /usr/share.
    find . -xdev \( -path ./boot -o -path ./var/cache -o -path ./var/lib/apt -o -path "./usr/share/*" -o -path "./usr/lib/modules/*/kernel/*" \
        -o -path ./complete \) -prune -o -print
    find ./usr/lib/modules -type d
    find ./usr/share/dbus-1
    for name in $modules; do
        chroot . modprobe -S "$release" --show-depends "$name" | awk '$1 == "insmod" { sub("^/lib/", "/usr/lib/", $2); print "." $2 }'
    done | sort -u
) >"$work/files"
{
    (cd "$tree" && cpio -o -H newc --quiet) <"$work/files"
    cd "$work/top"
    find . | cpio -o -H newc --quiet
} | zstd -q -1 -T0 >"$work/initramfs"

disks=()
for file in old.root slot.root old.efi slot.efi; do disks+=(-drive "if=virtio,format=raw,file=$work/$file"); done
timeout 900 qemu-system-x86_64 -M q35 -cpu max -accel tcg -m 2048 -smp 2 -nodefaults -display none -serial "file:$work/console" \
    -kernel "$kernel" -initrd "$work/initramfs" -append "console=ttyS0 quiet rauc.slot=A panic=-1" -no-reboot "${disks[@]}" \
    -netdev "user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:80-cmd:busybox httpd -i -h $work" -device virtio-net-pci,netdev=net || true
for part in root efi; do
    cmp -n "$(stat -c %s "$work/new.$part")" "$work/new.$part" "$work/slot.$part" >&2 || { cat "$work/console" >&2; exit 1; }
done
sed -n 's/.*nbd dl_size: .* sum=\([0-9]*\)\..*/\1/p' "$work/console"
