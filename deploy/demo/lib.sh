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
    guestkeeper=$repo/.venv/bin/guestkeeper
}

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' plain=$'\e[0m'
else
    bold='' plain=''
fi
say() { echo "${bold}demo:${plain} $*" >&2; }
die() { echo "demo: error: $*" >&2; exit 1; }

# The daemon's process id, if it runs. A pid file alone proves nothing: the number may be another's by now.
daemon_pid() {
    local pid
    pid=$(cat "$pidfile" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    [[ -r /proc/$pid/cmdline && "$(tr '\0' ' ' <"/proc/$pid/cmdline")" == *"--config $config"* ]] || return 1
    echo "$pid"
}
