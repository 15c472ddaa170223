#!/usr/bin/env bash
# `make demo`: from a fresh clone to two served guests. Every step may be repeated: what is there already is
# kept, and a daemon that runs already is only waited for.
#
# DEMO=install: the guests' image is not a ready disk but installed by kickstart, by a stand-in for an installer.
set -euo pipefail
# shellcheck source=deploy/demo/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

demo=${DEMO:-ready}
[[ $demo == ready || $demo == install ]] || die "DEMO=$demo: it is ready (the default) or install"

say "1/5 the machine: packages and Python environment"
if [[ $demo == install ]]; then
    "$repo/deploy/setup.sh" --standin
else
    "$repo/deploy/setup.sh"
fi
say "2/5 libvirt"
uri=$("$repo/deploy/libvirt-up.sh")
there=$(pool_path "$uri" || true)
if [[ -n $there && $there != "$state/pool" ]]; then
    die "libvirt's pool $pool is at $there, and the demo's is to be at $state/pool: it is another demo's, or yours." \
        "Another demo ends with: GUESTKEEPER_DEMO_STATE=${there%/pool} make demo-down. If nobody needs that pool" \
        "(its files stay): virsh -c $uri pool-destroy $pool; virsh -c $uri pool-undefine $pool"
fi
say "3/5 the Debian image (built once, then cached)"
image=$("$repo/deploy/demo/build-image.sh")

mkdir -p "$state/pool"
# QEMU runs as a user of its own under qemu:///system; it must be able to walk into the pool, not to list it.
chmod 0711 "$state" "$state/pool"

# The daemon refuses documents that others could write (who can, is root's equal); a clone made under
# umask 002 would be.
chmod -R go-w "$repo/desired-state"
documents=$repo/desired-state
if [[ $demo == install ]]; then
    standin=$("$repo/tests/standin/build.sh")
    documents=$installed
    if [[ ! -d $documents ]]; then
        cp -r "$repo/desired-state" "$documents"
        cp "$repo/deploy/demo/install/image.yaml" "$repo/tests/standin/server.ks.j2" "$documents/"
    fi
    if ! tree_pid >/dev/null; then
        setsid "$repo/.venv/bin/python" -m http.server --bind "${tree%:*}" --directory "$standin/tree" "${tree#*:}" \
            </dev/null >>"$state/tree.log" 2>&1 &
        echo $! >"$treepid"
    fi
fi

say "4/5 the daemon"
if pid=$(daemon_pid); then
    grep -q "desired_dir = \"$documents\"" "$config" || die "the other demo runs already; first: make demo-down"
    say "is running already (pid $pid)"
else
    cat >"$config" <<EOF
# Written by deploy/demo/up.sh; \`make demo-down\` removes it.
desired_dir = "$documents"
state_dir = "$state"
cache_dir = "$state/cache"
images_dir = "$image"
socket = "$state/guestkeeper.sock"
listen = "$listen"

[hosts.local]
uri = "$uri"
pool = "$pool"

[hosts.local.pools]
$pool = "$state/pool"
EOF
    # setsid: Ctrl-C in this terminal ends the waiting, not the daemon.
    setsid "$guestkeeper" run --config "$config" </dev/null >>"$log" 2>&1 &
    echo $! >"$pidfile"
    say "started (pid $!), log in $log"
fi
export GUESTKEEPER_CONFIG=$config

if [[ $demo == install ]]; then
    say "5/5 installing the image; its installer's own words: guestkeeper logs image/debian12 -f"
    deadline=$((SECONDS + 300)) # the daemon has just been started
    until "$guestkeeper" images build debian12 >/dev/null 2>&1 || ((SECONDS >= deadline)); do
        sleep 0.2
    done
    "$guestkeeper" images build debian12 --wait --timeout 15m || die "not installed; see: guestkeeper describe image/debian12"
fi
say "5/5 waiting until ${guests[*]} are Ready (half a minute; longer without KVM on a busy machine)"
if ! "$guestkeeper" wait "${guests[@]}" --for=condition=Ready --timeout 1200; then
    daemon_pid >/dev/null || say "the daemon has ended"
    say "the last lines of $log:"
    tail -n 20 "$log" >&2
    die "not Ready; ask why with: GUESTKEEPER_CONFIG=$config .venv/bin/guestkeeper describe web1"
fi

say "what the guests serve:"
curl --silent --show-error --fail --max-time 10 http://127.0.0.1:18080/
curl --silent --show-error --fail --max-time 10 http://127.0.0.1:18081/
"$guestkeeper" get guests

try() { printf '  %-49s %s\n' "$1" "$2"; }
echo
echo "${bold}Now try:${plain}"
echo "  export GUESTKEEPER_CONFIG=$config"
echo "  export PATH=$repo/.venv/bin:\$PATH"
echo
try "curl http://127.0.0.1:18080/" "the page that web1 serves"
try "edit ${documents/#$repo\//}/guests.yaml" "change web1's greeting, save, curl again"
try "virsh -c $uri destroy web1" "pull the plug; it comes back by itself"
try "guestkeeper events -f" "watch what the daemon does about it"
try "guestkeeper describe web1" "one guest, everything known about it"
try "guestkeeper plan" "what would change now: nothing"
if [[ $demo == install ]]; then
    try "guestkeeper describe image/debian12" "how it was installed"
    try "guestkeeper logs image/debian12" "all that the installer said"
    try "guestkeeper render image/debian12" "the kickstart, and the machine it ran on"
fi
try "curl http://$listen/metrics" "for Prometheus"
echo
try "make demo-down" "removes every trace"
