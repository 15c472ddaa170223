#!/usr/bin/env bash
# Builds the stand-in installer that the end-to-end tests (and `make demo DEMO=install`) install from:
# Anaconda and debian-installer cannot be had where these run. Everything comes from the demo's image
# and this host, so nothing is downloaded. It is cached by the digest of its recipe; a second call
# prints the directory at once.
#
#   build.sh [--force]
#
# Prints a directory on stdout: `vmlinuz` and `initrd`, the installer, and `tree/`, an installation tree
# like RHEL's to be served over HTTP (`.treeinfo`, `images/pxeboot/`, and the payload: root-full.tar,
# a Debian that boots by itself and answers through the guest agent, and root-tiny.tar, a few MB that
# do not). Progress goes to stderr. Environment: GUESTKEEPER_CACHE, and what build-image.sh reads.
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

say() { echo "standin: $*" >&2; }
die() { echo "standin: error: $*" >&2; exit 1; }

if [[ $(id -u) == 0 ]]; then
    default_cache=/var/cache/guestkeeper
else
    default_cache=${XDG_CACHE_HOME:-$HOME/.cache}/guestkeeper
fi
store=${GUESTKEEPER_CACHE:-$default_cache}/standin
demo=$("$here/../../deploy/demo/build-image.sh")

digest=$( (echo "${demo##*/}"; cat "${BASH_SOURCE[0]}" "$recipe"/*) | sha256sum | cut -c1-16)
target=$store/$digest
if [[ -e $target/initrd && $force == no ]]; then
    echo "$target"
    exit 0
fi

for tool in qemu-img debugfs tar cpio gzip depmod modprobe flock extlinux; do
    command -v "$tool" >/dev/null || die "$tool is missing: run deploy/setup.sh --standin first"
done
# Debian's and Fedora's places for the same file.
mbr=
for candidate in /usr/lib/EXTLINUX/mbr.bin /usr/share/syslinux/mbr.bin; do
    [[ ! -e $candidate ]] || mbr=$candidate
done
[[ -n $mbr ]] || die "extlinux's mbr.bin is missing: run deploy/setup.sh --standin first"

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

say "building the stand-in installer from ${demo##*/}"
SECONDS=0
work=$(mktemp -d "${TMPDIR:-/tmp}/guestkeeper-standin.XXXXXXXX")
new=$(mktemp -d "$store/.new.XXXXXXXX")
cleanup() {
    as_root rm -rf "$work/root"
    rm -rf "$work" "$store"/.new.*
}
# The Debian root has files of many owners: a plain user unpacks and packs it in a user namespace.
as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else unshare --map-root-user --map-auto "$@"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

root=$work/root initrd=$work/initrd tiny=$work/tiny
mkdir "$root" "$initrd" "$tiny"
qemu-img convert -O raw "$demo/debian12.qcow2" "$work/root.raw"
as_root debugfs -R "rdump / $root" "$work/root.raw" >"$work/debugfs.log" 2>&1
rm "$work/root.raw"
[[ -x $root/usr/bin/qemu-ga || -x $root/usr/sbin/qemu-ga ]] ||
    { cat "$work/debugfs.log" >&2; die "the demo image could not be unpacked"; }
versions=("$root"/usr/lib/modules/*)
modules=${versions[0]}
version=${modules##*/}

# --- What the programs of ours need: copied with their libraries ------------------------------------
# libraries ROOT PROGRAM: the paths, by the loader of that root, so that a host of another
# distribution does not matter.
libraries() {
    local base=$1
    "$base/lib64/ld-linux-x86-64.so.2" --inhibit-cache \
        --library-path "$base/lib/x86_64-linux-gnu:$base/usr/lib/x86_64-linux-gnu" --list "$2" |
        sed -n 's/^.* => \(\/[^ ]*\) .*$/\1/p'
}
# add_program INTO PROGRAM: of the Debian root.
add_program() {
    local library
    install -D "$root/$2" "$1/$2"
    install -D "$root/lib64/ld-linux-x86-64.so.2" "$1/lib64/ld-linux-x86-64.so.2"
    for library in $(libraries "$root" "$root/$2"); do
        install -D "$library" "$1/lib/x86_64-linux-gnu/${library##*/}"
    done
}

# --- The installer ----------------------------------------------------------------------------------
mkdir -p "$initrd"/{bin,sbin,dev,etc,proc,sys,run,tmp,mnt/sysroot,mnt/source,lib/modules,lib/standin}
cp "$root/bin/busybox" "$initrd/bin/busybox"
cp "$recipe/init" "$initrd/init"
cp "$recipe"/*.awk "$recipe/udhcpc" "$initrd/lib/standin/"
for tool in in-target curtin apt-install; do cp "$recipe/$tool" "$initrd/bin/$tool"; done
chmod 755 "$initrd/init" "$initrd"/bin/* "$initrd/lib/standin/udhcpc"
cp "$mbr" "$initrd/lib/standin/mbr.bin"
add_program "$initrd" bin/bash
add_program "$initrd" sbin/mke2fs
# extlinux reads no 64bit ext4.
cat >"$initrd/etc/mke2fs.conf" <<'END'
[defaults]
    inode_size = 256
    inode_ratio = 32768
[fs_types]
    ext4 = {
        features = has_journal,extent,filetype,sparse_super,large_file,dir_index,huge_file,flex_bg,extra_isize
    }
END
# extlinux is this host's, and so are its loader and C library, which may be newer than the root's.
mkdir "$initrd/lib/standin/extlinux"
extlinux=$(command -v extlinux)
cp "$extlinux" "$initrd/lib/standin/extlinux/"
ldd "$extlinux" | sed -n 's/^[^/]*\(\/[^ ]*\) (.*$/\1/p' | xargs -I{} cp {} "$initrd/lib/standin/extlinux/"
# Kernel modules, each after what it needs.
for module in virtio_pci virtio_blk virtio_net virtio_console virtio-rng virtio_scsi sr_mod isofs \
    pvpanic-mmio button evdev af_packet; do
    modprobe -d "$root" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*$/\1/p'
done | awk '!seen[$0]++' >"$work/modules"
while read -r module; do
    cp "$module" "$initrd/lib/modules/"
    echo "${module##*/}"
done <"$work/modules" >"$initrd/lib/modules/order"

pack() { (cd "$1" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0); }
mkdir -p "$new/tree/images/pxeboot"
cp "$demo/debian12.vmlinuz" "$new/tree/images/pxeboot/vmlinuz"
pack "$initrd" | gzip -1n >"$new/tree/images/pxeboot/initrd.img"

# --- The payload ------------------------------------------------------------------------------------
# The full root: the demo's, slimmed, with the kernel and the initrd that its boot loader loads.
slim() {
    rm -rf "$root"/usr/share/{doc,info,bash-completion,perl,perl5} "$root"/usr/share/man \
        "$root"/usr/lib/x86_64-linux-gnu/{perl,gconv} "$root"/usr/lib/udev/hwdb.{d,bin} "$root/lost+found"
    local kernel=$root/usr/lib/modules/$version/kernel
    mkdir "$work/kept"
    (cd "$kernel" && cp -a --parents drivers/{virtio,char,cdrom,scsi} fs/{autofs,fuse,isofs,nls,fat} "$work/kept/")
    rm -rf "$kernel"
    mv "$work/kept" "$kernel"
    depmod -b "$root" "$version"
    cp "$demo/debian12.vmlinuz" "$root/boot/vmlinuz"
    cp "$demo/debian12.initrd" "$root/boot/initrd"
    # What the shipped answer files' scripts take for granted on their distributions.
    mkdir -p "$root"/etc/{network,netplan,NetworkManager/{conf.d,system-connections},selinux}
    for tool in update-grub semanage restorecon; do
        printf '#!/bin/sh\necho "%s: nothing to do on the stand-in"\n' "$tool" >"$root/usr/sbin/$tool"
        chmod 755 "$root/usr/sbin/$tool"
    done
    tar -C "$root" --sort=name --numeric-owner -cf "$new/tree/root-full.tar" .
}
export root version work demo new
as_root bash -euc "$(declare -f slim); slim"

# The tiny root: what scripts in a chroot need, and nothing that could boot.
mkdir -p "$tiny"/{bin,sbin,dev,etc,proc,sys,run,tmp,root,boot,etc/ssh,var/log,var/lib}
cp "$root/bin/busybox" "$tiny/bin/busybox"
"$tiny/bin/busybox" --list | while read -r applet; do
    [[ $applet == busybox || -e $tiny/bin/$applet ]] || ln -s busybox "$tiny/bin/$applet"
done
ln -s ../bin/busybox "$tiny/sbin/init"
ln -s . "$tiny/usr"
chmod 1777 "$tiny/tmp"
add_program "$tiny" bin/bash
echo 'root:*:19000:0:99999:7:::' >"$tiny/etc/shadow"
chmod 0600 "$tiny/etc/shadow"
echo 'root:x:0:0:root:/root:/bin/sh' >"$tiny/etc/passwd"
echo 'root:x:0:' >"$tiny/etc/group"
: >"$tiny/etc/machine-id"
printf 'ID=standin\nNAME="Stand-in tiny root"\n' >"$tiny/etc/os-release"
head -c 65536 "$demo/debian12.vmlinuz" >"$tiny/boot/vmlinuz"
: >"$tiny/boot/initrd"
tar -C "$tiny" --sort=name --numeric-owner --owner=0 --group=0 -cf "$new/tree/root-tiny.tar" .

# --- The tree's description, as RHEL's --------------------------------------------------------------
sum() { sha256sum "$new/tree/$1" | cut -d' ' -f1; }
cat >"$new/tree/.treeinfo" <<END
[header]
type = productmd.treeinfo
version = 1.2

[release]
name = Stand-in
short = Standin
version = 1

[general]
arch = x86_64
family = Stand-in
name = Stand-in 1
platforms = x86_64
version = 1

[checksums]
images/pxeboot/initrd.img = sha256:$(sum images/pxeboot/initrd.img)
images/pxeboot/vmlinuz = sha256:$(sum images/pxeboot/vmlinuz)
root-full.tar = sha256:$(sum root-full.tar)
root-tiny.tar = sha256:$(sum root-tiny.tar)

[images-x86_64]
initrd = images/pxeboot/initrd.img
kernel = images/pxeboot/vmlinuz

[stage2]
mainimage = root-full.tar

[tree]
arch = x86_64
platforms = x86_64
END
ln "$new/tree/images/pxeboot/vmlinuz" "$new/vmlinuz"
ln "$new/tree/images/pxeboot/initrd.img" "$new/initrd"

chmod -R u=rwX,go=rX "$new"
sync -f "$new"
rm -rf "$target"
mv -T "$new" "$target"
for old in "$store"/*/; do
    [[ ${old%/} == "$target" ]] || rm -rf "$old"
done
say "built in $SECONDS s: $(du -sh "$target" | cut -f1) in $target"
echo "$target"
