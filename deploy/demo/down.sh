#!/usr/bin/env bash
# `make demo-down`: removes every trace of the demo, and nothing else: only domains that are marked as
# Guestkeeper's own *and* stored in the demo's pool go. The cached image stays, unless PURGE=1. Can be repeated.
set -euo pipefail
# shellcheck source=deploy/demo/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The daemon first, or it would bring the guests back.
if pid=$(daemon_pid); then
    say "stopping the daemon (pid $pid)"
    kill -TERM "$pid"
    deadline=$((SECONDS + 20))
    while daemon_pid >/dev/null; do
        if ((SECONDS >= deadline)); then
            say "it does not end by itself; killing it"
            kill -KILL "$pid"
            deadline=$((SECONDS + 20))
        fi
        sleep 0.2
    done
fi

if pid=$(tree_pid); then
    kill -TERM "$pid"
fi

if command -v virsh >/dev/null && uri=$("$repo/deploy/libvirt-up.sh"); then
    virsh=(timeout 60 virsh --quiet --connect "$uri")
    there=$(pool_path "$uri" || true)
    ours=1
    if [[ -n $there && $there != "$state/pool" ]]; then
        say "libvirt's pool $pool is at $there, not at $state/pool: it stays, with what is in it"
        ours=0
    fi
    # Every guest whose disk is in the demo's pool, whatever it is called; the documents may have grown.
    while read -r guest; do
        [[ -n $guest ]] || continue
        xml=$("${virsh[@]}" dumpxml --inactive "$guest")
        grep -qE "'$state/pool/|pool='$pool'" <<<"$xml" || continue
        ((ours)) || ! grep -q "pool='$pool'" <<<"$xml" || continue
        if ! grep -qE "urn:guestkeeper:(build:)?v1" <<<"$xml"; then
            die "the domain $guest has its disk in $state and is not Guestkeeper's; remove it yourself first"
        fi
        say "removing the guest $guest"
        "${virsh[@]}" destroy "$guest" >/dev/null 2>&1 || true # off already
        "${virsh[@]}" undefine "$guest" --managed-save --nvram --snapshots-metadata --checkpoints-metadata >/dev/null 2>&1 ||
            ! "${virsh[@]}" dominfo "$guest" >/dev/null 2>&1 || die "the domain $guest could not be removed"
        rm -f "/var/log/libvirt/qemu/$guest-serial.log" 2>/dev/null || true # a plain user has none
    done < <("${virsh[@]}" list --all --name)
    if ((ours)) && "${virsh[@]}" pool-info "$pool" >/dev/null 2>&1; then
        say "removing the pool $pool"
        "${virsh[@]}" pool-destroy "$pool" >/dev/null 2>&1 || true # not active
        "${virsh[@]}" pool-undefine "$pool" >/dev/null
    fi
fi

if [[ -d $state ]]; then
    # Only what is ours by its name: the directory can be set from outside.
    [[ -e $config || -d $state/pool ]] || die "$state does not look like the demo's directory; not removing it"
    rm -rf "$state"
fi
if [[ ${PURGE:-0} == 1 ]]; then
    if [[ $(id -u) == 0 ]]; then
        default_cache=/var/cache/guestkeeper
    else
        default_cache=${XDG_CACHE_HOME:-$HOME/.cache}/guestkeeper
    fi
    cache=${GUESTKEEPER_CACHE:-$default_cache}
    say "removing the cached images in $cache"
    rm -rf "$cache/demo-image" "$cache/cloudinit-image" "$cache/standin"
    rmdir --ignore-fail-on-non-empty "$cache" 2>/dev/null || true
else
    say "the cached image stays for the next time (PURGE=1 make demo-down removes it, too)"
fi
say "gone"
