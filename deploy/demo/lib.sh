# shellcheck shell=bash
# What up.sh and down.sh must agree on: where the demo keeps its things and what they are called.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [[ $(id -u) == 0 ]]; then
    state=${GUESTKEEPER_DEMO_STATE:-/var/lib/guestkeeper-demo}
else
    state=${GUESTKEEPER_DEMO_STATE:-${XDG_STATE_HOME:-$HOME/.local/state}/guestkeeper-demo}
fi
# shellcheck disable=SC2034  # used by the scripts that source this
{
    guests=(web1 web2)
    pool="guestkeeper-demo"
    config=$state/guestkeeper.toml
    pidfile=$state/daemon.pid
    log=$state/daemon.log
    listen=127.0.0.1:9750
    # DEMO=install: the installation tree that is served, by whom, and the documents.
    tree=127.0.0.1:18079
    treepid=$state/tree.pid
    installed=$state/desired-state
    guestkeeper=$repo/.venv/bin/guestkeeper
}

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' plain=$'\e[0m'
else
    bold='' plain=''
fi
say() { echo "${bold}demo:${plain} $*" >&2; }
die() { echo "demo: error: $*" >&2; exit 1; }

# running FILE WORDS: the process id in FILE, if that process has WORDS in its command line. A pid file alone
# proves nothing: the number may be another's by now.
running() {
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    [[ -r /proc/$pid/cmdline && "$(tr '\0' ' ' <"/proc/$pid/cmdline")" == *"$2"* ]] || return 1
    echo "$pid"
}
# pool_path URI: where libvirt's pool of the demo's name is; '' where there is none.
pool_path() {
    timeout 60 virsh --quiet --connect "$1" pool-dumpxml "$pool" 2>/dev/null |
        sed -n 's|^ *<path>\(.*\)</path>$|\1|p' | head -n 1
}
daemon_pid() { running "$pidfile" "--config $config"; }
tree_pid() { running "$treepid" "http.server"; }
