#!/usr/bin/env bash
# Installs what Guestkeeper's tests and demo need, so that a fresh machine needs nothing but this clone:
# distribution packages (libvirt, QEMU, what builds the demo image) and the Python environment .venv.
# Runs in well under a second when nothing is missing, so `make` calls it every time.
#
#   setup.sh [--tests | --standin]
#                          --standin also installs the boot loader of tests/standin (extlinux); --tests
#                          that, and what only the tests use: promtool (in the package prometheus,
#                          whose service is switched off again), git, openssl, shellcheck
#
# Debian and Ubuntu are tested; Fedora and RHEL (dnf) are written by the book and untested.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { echo "setup: $*" >&2; }
die() { echo "setup: error: $*" >&2; exit 1; }

log=$(mktemp "${TMPDIR:-/tmp}/guestkeeper-setup.XXXXXXXX")
trap 'rm -f "$log"' EXIT
# What a command prints matters only if it fails.
quietly() {
    "$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; die "failed: $*"; }
}

as_root=()
if [[ $(id -u) != 0 ]]; then
    as_root=(sudo)
fi
need_root() {
    [[ $(id -u) == 0 ]] || command -v sudo >/dev/null ||
        die "these packages are missing and only root can install them (there is no sudo here): $*"
}

apt_packages=(libvirt-daemon-system libvirt-clients libvirt-dev pkg-config gcc make curl python3-venv
    python3-dev qemu-system-x86 qemu-utils mmdebstrap debian-archive-keyring e2fsprogs kmod
    busybox-static cpio dnsmasq-base procps ovmf)
dnf_packages=(libvirt-daemon-kvm libvirt-client libvirt-devel pkgconf-pkg-config gcc make curl python3
    python3-devel qemu-system-x86-core qemu-img mmdebstrap debian-keyring e2fsprogs kmod busybox cpio
    dnsmasq procps-ng edk2-ovmf)
# A plain user builds the image in a user namespace, which needs newuidmap.
[[ $(id -u) == 0 ]] || { apt_packages+=(uidmap); dnf_packages+=(shadow-utils); }
if [[ ${1:-} == --tests || ${1:-} == --standin ]]; then
    apt_packages+=(extlinux)
    dnf_packages+=(syslinux-extlinux syslinux-nonlinux)
fi
if [[ ${1:-} == --tests ]]; then
    apt_packages+=(git openssl prometheus shellcheck)
    dnf_packages+=(git-core openssl golang-github-prometheus ShellCheck)
fi

if command -v apt-get >/dev/null; then
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${apt_packages[@]}" 2>/dev/null |
        sed -n 's/^installed //p' || true)
    missing=()
    for package in "${apt_packages[@]}"; do
        grep -qxF "$package" <<<"$installed" || missing+=("$package")
    done
    if ((${#missing[@]})); then
        need_root "${missing[*]}"
        say "installing ${missing[*]}"
        quietly "${as_root[@]}" apt-get update
        quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends "${missing[@]}"
        if [[ " ${missing[*]} " == *" prometheus "* && -d /run/systemd/system ]]; then
            quietly "${as_root[@]}" systemctl disable --now prometheus.service
        fi
    fi
elif command -v dnf >/dev/null; then
    missing=()
    for package in "${dnf_packages[@]}"; do
        rpm -q --quiet --whatprovides "$package" || missing+=("$package")
    done
    if ((${#missing[@]})); then
        need_root "${missing[*]}"
        say "installing ${missing[*]} (dnf: untested, please tell us)"
        quietly "${as_root[@]}" dnf install -y "${missing[@]}"
    fi
else
    for tool in virsh qemu-system-x86_64 qemu-img mmdebstrap mke2fs cpio curl python3; do
        command -v "$tool" >/dev/null ||
            die "$tool is missing, and neither apt nor dnf is here to install it"
    done
fi

# The interpreter: the newest of what is here, 3.11 at least.
python=
for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python=$candidate
        break
    fi
done
[[ -n $python ]] || die "Python 3.11 or newer is needed; found $(python3 --version 2>&1 || echo none)"

cd "$repo"
stamp=.venv/.guestkeeper-stamp
digest=$(sha256sum pyproject.toml | cut -d' ' -f1)
if [[ ! -x .venv/bin/python || $(cat "$stamp" 2>/dev/null || true) != "$digest" ]]; then
    exec 9<pyproject.toml # one installation at a time
    flock 9
    if [[ ! -x .venv/bin/python || $(cat "$stamp" 2>/dev/null || true) != "$digest" ]]; then
        say "installing the Python environment into .venv (about a minute)"
        [[ -x .venv/bin/python ]] || quietly "$python" -m venv .venv
        quietly .venv/bin/python -m pip install --disable-pip-version-check -e '.[dev]'
        echo "$digest" >"$stamp"
    fi
fi
