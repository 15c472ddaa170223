#!/usr/bin/env bash
# Builds the micro guests that the tests of a guest's whole life boot: Debian's cloud kernel, busybox,
# the guest agent and a web server, ready seconds after their start under TCG. Everything comes from the
# demo's image and this host, so nothing is downloaded. It is cached by the digest of its recipe; a second
# call prints the directory at once.
#
#   build.sh [--force]
#
# Prints a directory on stdout: `vmlinuz` and `initrd`, for every image, and the system disks
#   one.qcow2, two.qcow2       serve "image one" and "image two" on port 80, and have that in /etc/image
#   silent.qcow2               boots, and is never heard of: no agent, no service, deaf to the power button
#   panic.qcow2                its kernel panics
# Progress goes to stderr. Environment: GUESTKEEPER_CACHE, and what build-image.sh reads.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
recipe=$here/image
force=no
while (($#)); do
    case $1 in
        --force) force=yes ;;
        *) echo "usage: ${0##*/} [--force]" >&2; exit 2 ;;
    esac
    shift
done

say() { echo "micro: $*" >&2; }
die() { echo "micro: error: $*" >&2; exit 1; }

if [[ $(id -u) == 0 ]]; then
    default_cache=/var/cache/guestkeeper
else
    default_cache=${XDG_CACHE_HOME:-$HOME/.cache}/guestkeeper
fi
store=${GUESTKEEPER_CACHE:-$default_cache}/micro
demo=$("$here/../../deploy/demo/build-image.sh")

digest=$( (echo "${demo##*/}"; cat "${BASH_SOURCE[0]}" "$recipe"/*) | sha256sum | cut -c1-16)
target=$store/$digest
if [[ -e $target/initrd && $force == no ]]; then
    echo "$target"
    exit 0
fi

for tool in qemu-img debugfs mke2fs cpio depmod modprobe flock; do
    command -v "$tool" >/dev/null || die "$tool is missing: run deploy/setup.sh first"
done

mkdir -p "$store"
exec 9>"$store/.lock"
if ! flock --nonblock 9; then
    say "another build is running; waiting for it"
    flock 9
fi
if [[ -e $target/initrd && $force == no ]]; then
    echo "$target"
    exit 0
fi

say "building the micro guests from ${demo##*/}"
SECONDS=0
work=$(mktemp -d "${TMPDIR:-/tmp}/guestkeeper-micro.XXXXXXXX")
new=$(mktemp -d "$store/.new.XXXXXXXX")
cleanup() { rm -rf "$work" "$store"/.new.*; }
trap cleanup EXIT
trap 'exit 130' INT TERM

root=$work/root initrd=$work/initrd micro=$work/micro
mkdir "$root" "$initrd" "$micro"
qemu-img convert -O raw "$demo/debian12.qcow2" "$work/root.raw"
# A plain user cannot give the files their owners, which does not matter here.
debugfs -R "rdump /usr $root" "$work/root.raw" >"$work/debugfs.log" 2>&1
rm "$work/root.raw"
[[ -x $root/usr/sbin/qemu-ga ]] || { cat "$work/debugfs.log" >&2; die "the demo image could not be unpacked"; }
for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$root/$directory"; done
versions=("$root"/usr/lib/modules/*)
version=${versions[0]##*/}

pack() { (cd "$1" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0); }

# --- The initrd: not compressed, since unpacking it under TCG costs more than reading it -------------
mkdir -p "$initrd"/{bin,dev,proc,sys,root}
cp "$root/bin/busybox" "$initrd/bin/"
cp "$recipe/init" "$initrd/"
for module in pvpanic-mmio virtio_pci virtio_blk virtio_console virtio_net virtio_balloon button evdev \
    virtio_scsi sr_mod isofs efivarfs; do
    modprobe -d "$root" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*$/\1/p'
done | sort -u >"$work/modules"
mkdir -p "$initrd/lib/modules/$version"
xargs -I{} cp {} "$initrd/lib/modules/$version/" <"$work/modules"
depmod -b "$initrd" "$version" 2>/dev/null
pack "$initrd" >"$new/initrd"
cp "$demo/debian12.vmlinuz" "$new/vmlinuz"

# --- The root of every image ------------------------------------------------------------------------
# add_program PROGRAM: with its libraries, by the loader of that root, so that a host of another
# distribution does not matter.
add_program() {
    local library
    install -D "$root/usr/$1" "$micro/usr/$1"
    for library in $("$root/lib64/ld-linux-x86-64.so.2" --inhibit-cache \
        --library-path "$root/usr/lib/x86_64-linux-gnu" --list "$root/usr/$1" |
        sed -n 's/^.* => \(\/[^ ]*\) .*$/\1/p'); do
        install -D "$library" "$micro/usr/lib/x86_64-linux-gnu/${library##*/}"
    done
}
mkdir -p "$micro"/{dev,proc,sys,run,tmp,root,mnt,srv,data,etc/acpi/PWRF,var/lib,usr/{bin,sbin,lib,lib64}}
for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$micro/$directory"; done
chmod 700 "$micro/root"
ln -s ../run "$micro/var/run"
ln -s /proc/mounts "$micro/etc/mtab"
install "$root/lib64/ld-linux-x86-64.so.2" "$micro/usr/lib64/"
install "$root/bin/busybox" "$micro/bin/"
# What Guestkeeper's scripts and the agent call, and busybox has not with these options.
for program in bin/dash bin/flock bin/mv bin/stat bin/timeout sbin/qemu-ga; do add_program "$program"; done
"$micro/bin/busybox" --list | while read -r applet; do
    # A name of these would say that the guest has what it has not.
    case $applet in dpkg | dpkg-deb | rpm | rpm2cpio | init | halt | poweroff | reboot) continue ;; esac
    [[ -e $micro/bin/$applet || -e $micro/sbin/$applet ]] || ln -s busybox "$micro/bin/$applet"
done
ln -sf dash "$micro/bin/sh"
ln -s ../bin/busybox "$micro/sbin/init"
install "$recipe/boot" "$recipe/hotplug" "$recipe/shutdown" "$micro/sbin/"
for name in poweroff reboot; do
    ln -s shutdown "$micro/sbin/$name"
done
ln -s ../../../sbin/shutdown "$micro/etc/acpi/PWRF/00000080"
cp "$recipe/inittab" "$micro/etc/"
echo micro >"$micro/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 micro\n' >"$micro/etc/hosts"
echo 'root:x:0:0:root:/root:/bin/sh' >"$micro/etc/passwd"
echo 'root:x:0:' >"$micro/etc/group"
printf 'ID=micro\nNAME="A micro guest of Guestkeeper'"'"'s tests"\n' >"$micro/etc/os-release"

# --- The disks --------------------------------------------------------------------------------------
as_root() { # a plain user's files have to become root's
    if [[ $(id -u) == 0 ]]; then "$@"; else unshare --map-root-user "$@"; fi
}
disk() { # disk NAME: of what $micro is now
    truncate -s 48M "$work/disk.ext4"
    as_root mke2fs -q -t ext4 -L root -m 0 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard -d "$micro" "$work/disk.ext4"
    qemu-img convert -O qcow2 "$work/disk.ext4" "$new/$1.qcow2"
    rm "$work/disk.ext4"
}
for name in one two; do
    echo "image $name" | tee "$micro/etc/image" >"$micro/srv/index.html"
    disk "$name"
done
rm "$micro/sbin/init"
disk panic
printf '#!/bin/dash\nexec busybox sleep 1000000\n' >"$micro/sbin/init"
chmod 755 "$micro/sbin/init"
disk silent

chmod -R u=rwX,go=rX "$new"
sync -f "$new"
rm -rf "$target"
mv -T "$new" "$target"
for old in "$store"/*/; do
    [[ ${old%/} == "$target" ]] || rm -rf "$old"
done
say "built in $SECONDS s: $(du -sh "$target" | cut -f1) in $target"
echo "$target"
