#!/usr/bin/env bash
# Runs every test. An emulated guest keeps one core busy and the tests without guests another, so the two
# kinds run beside each other: what took 22 minutes one after the other takes a quarter less.
#
#   run.sh [PYTEST'S ARGUMENTS]     with arguments: one run of pytest with these, in the foreground
#
# The tests with guests report last. Exits with the first status that is not 0.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
pytest=(.venv/bin/python -m pytest)
if (($#)); then
    exec "${pytest[@]}" "$@"
fi

log=$(mktemp "${TMPDIR:-/tmp}/guestkeeper-tests.XXXXXXXX")
# A shell gives what it runs in the background no SIGINT, unless it is told to.
env --default-signal=INT "${pytest[@]}" tests/e2e >"$log" 2>&1 </dev/null &
guests=$!
# SIGINT, as Ctrl-C gives it to a run in the foreground: pytest then removes what it made.
trap 'kill -INT "$guests" 2>/dev/null && wait "$guests"; rm -f "$log"' EXIT
"${pytest[@]}" -p no:cacheprovider tests/unit tests/property tests/libvirt
others=$?
wait "$guests"
status=$?
cat "$log"
if ((others)); then
    echo "tests without guests failed too: see above (exit status $others)" >&2
fi
exit $((others ? others : status))
