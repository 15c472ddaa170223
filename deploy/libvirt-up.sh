#!/usr/bin/env bash
# Makes a libvirt connection that can run guests, wherever we are: a systemd machine, a container whose
# PID 1 is something else (CI), or a plain user's account. Prints the URI on stdout; messages go to stderr.
# A libvirt that answers already is left alone.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

say() { echo "libvirt: $*" >&2; }
die() { echo "libvirt: error: $*" >&2; exit 1; }
# Without a limit a hung daemon would hang us.
answers() { timeout 20 virsh --quiet --connect "$1" uri >/dev/null 2>&1; }

command -v virsh >/dev/null || die "virsh is missing: run deploy/setup.sh first"

if [[ $(id -u) != 0 ]]; then
    # The session daemon starts by itself.
    uri=qemu:///session
    answers "$uri" || die "$uri does not answer; try: virsh -c $uri uri"
    echo "$uri"
    exit 0
fi

uri=qemu:///system
if ! answers "$uri"; then
    if [[ -d /run/systemd/system ]]; then
        # Distributions ship either the monolithic daemon or the modular ones.
        if systemctl cat virtqemud.socket >/dev/null 2>&1 && ! systemctl --quiet is-enabled libvirtd.service 2>/dev/null; then
            say "starting the modular daemons"
            systemctl start virtlogd.socket virtqemud.socket virtstoraged.socket virtnetworkd.socket
        else
            say "starting libvirtd.service"
            systemctl start libvirtd.service
        fi
    else
        say "starting virtlogd and libvirtd (PID 1 is not systemd)"
        # As udev's rule has it where udev runs. While QEMU's user cannot open a device that root can,
        # libvirt probes QEMU anew at every call, which takes seconds each.
        if [[ -c /dev/kvm && $(stat -c %G /dev/kvm) == root ]] && getent group kvm >/dev/null; then
            chgrp kvm /dev/kvm
            chmod 0660 /dev/kvm
        fi
        # No descriptor of ours may live on in a daemon: a caller that reads our output would wait for ever.
        # Nor may a lock that a caller holds.
        pgrep -x virtlogd >/dev/null || virtlogd -d </dev/null >/dev/null 2>&1 9>&-
        pgrep -x libvirtd >/dev/null || libvirtd -d </dev/null >/dev/null 2>&1 9>&-
    fi
    deadline=$((SECONDS + 30))
    until answers "$uri"; do
        ((SECONDS < deadline)) || die "$uri does not answer after 30 s; see the journal, or run libvirtd in the foreground"
        sleep 0.2
    done
fi
echo "$uri"
