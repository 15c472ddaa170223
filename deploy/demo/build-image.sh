#!/usr/bin/env bash
# Builds the Debian 12 image that the demo and the end-to-end tests boot, from the distribution's own
# packages, so that nothing has to be downloaded from anywhere but a Debian mirror. It is cached by the
# digest of its recipe; a second call prints the directory at once.
#
#   build-image.sh [--flavour plain|cloudinit] [--force]
#
# Prints the image's directory on stdout (debian12.qcow2, debian12.vmlinuz, debian12.initrd); progress
# goes to stderr. Environment: GUESTKEEPER_CACHE (where images are kept), GUESTKEEPER_MIRROR and
# GUESTKEEPER_SECURITY_MIRROR (the Debian mirrors).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
flavour=plain
force=no
while (($#)); do
    case $1 in
        --flavour) flavour=${2:?--flavour needs a value}; shift ;;
        --flavour=*) flavour=${1#*=} ;;
        --force) force=yes ;;
        *) echo "usage: ${0##*/} [--flavour plain|cloudinit] [--force]" >&2; exit 2 ;;
    esac
    shift
done

say() { echo "image: $*" >&2; }
die() { echo "image: error: $*" >&2; exit 1; }

size=2G
packages=(systemd-sysv udev dbus kmod iproute2 procps qemu-guest-agent nginx-light openssh-server
    acpid ca-certificates busybox-static)
case $flavour in
    plain) kind=demo-image ;;
    cloudinit) kind=cloudinit-image; packages+=(cloud-init) ;;
    *) die "no such flavour: $flavour (plain or cloudinit)" ;;
esac

if [[ $(id -u) == 0 ]]; then
    default_cache=/var/cache/guestkeeper
else
    default_cache=${XDG_CACHE_HOME:-$HOME/.cache}/guestkeeper
fi
store=${GUESTKEEPER_CACHE:-$default_cache}/$kind
mirror=${GUESTKEEPER_MIRROR:-http://deb.debian.org/debian}
security=${GUESTKEEPER_SECURITY_MIRROR:-http://deb.debian.org/debian-security}

digest=$( (echo "$flavour $mirror $security"; cat "${BASH_SOURCE[0]}" "$here"/image/*) | sha256sum | cut -c1-16)
target=$store/$digest
# One that is neither ours nor root's is none: libvirt gives a disk to its QEMU's user while a guest runs right
# from it, who may have written to it; and the daemon trusts no such file.
is_built() {
    local image=$target/debian12.qcow2
    [[ $force == no && -e $image ]] && [[ -O $image || $(stat --format %u "$image") == 0 ]]
}
if is_built; then
    echo "$target"
    exit 0
fi

for tool in mmdebstrap mke2fs qemu-img cpio depmod flock; do
    command -v "$tool" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null ||
        die "$tool is missing: run deploy/setup.sh first"
done
export PATH=$PATH:/usr/sbin:/sbin

mkdir -p "$store"
exec 9>"$store/.lock"
if ! flock --nonblock 9; then
    say "another build is running; waiting for it"
    flock 9
fi
if is_built; then
    echo "$target"
    exit 0
fi

# In a user namespace "root" is another user than us, who must be able to reach the recipe and to leave
# the result: hence a directory of our own below TMPDIR rather than the (private) cache or checkout.
work=$(mktemp -d "${TMPDIR:-/tmp}/guestkeeper-image.XXXXXXXX")
cleanup() { rm -rf "$work" "$store"/.new.*; }
trap cleanup EXIT
trap 'exit 130' INT TERM
chmod 0711 "$work"
mkdir "$work/recipe" "$work/out"
cp "$here"/image/* "$work/recipe/"
chmod -R a+rX "$work/recipe"
chmod 1777 "$work/out"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
signed=
if [[ -e $keyring ]]; then
    signed="[signed-by=$keyring] "
fi
say "building the Debian 12 image ($flavour) from $mirror; about a minute, once"
SECONDS=0
printf '%s\n' \
    "deb ${signed}$mirror bookworm main" \
    "deb ${signed}$mirror bookworm-updates main" \
    "deb ${signed}$security bookworm-security main" |
    mmdebstrap --mode=auto --variant=minbase --architectures=amd64 --format=null \
        --include="$(IFS=,; echo "${packages[*]}")" \
        --aptopt='Apt::Install-Recommends "false"' \
        --aptopt='Acquire::Languages "none"' \
        --skip=cleanup \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook="sh '$work/recipe/customize.sh' \"\$1\" '$work/out' $flavour $size" \
        bookworm - - >&2

new=$(mktemp -d "$store/.new.XXXXXXXX")
cp "$work"/out/debian12.* "$new/"
chmod 0755 "$new"
chmod 0644 "$new"/*
sync -f "$new"
rm -rf "$target"
mv -T "$new" "$target"
for old in "$store"/*/; do
    [[ ${old%/} == "$target" ]] || rm -rf "$old"
done
say "built in $SECONDS s: $(du -sh "$target" | cut -f1) in $target"
echo "$target"
