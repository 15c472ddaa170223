#!/usr/bin/env bash
# Runs every test, in as many streams as keep two cores busy: an emulated guest takes one core and waits
# now and then. What would take most of an hour one after the other takes a third of that.
#
#   run.sh [PYTEST'S ARGUMENTS]     with arguments: one run of pytest with these, in the foreground
#
# Half of the files with guests, by the time they take, are the first stream of guests. All others are the second,
# which begins when the tests without guests are through. The streams with guests report last. Exits with the first
# status that is not 0.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
pytest=(.venv/bin/python -m pytest)
if (($#)); then
    exec "${pytest[@]}" "$@"
fi

first=(
    tests/e2e/test_{builders,images,installs,demo,guest_access,life,replacement}_real.py
    tests/e2e/test_every_field_real.py
)
second=()
for file in tests/e2e/test_*.py; do
    [[ " ${first[*]} " == *" $file "* ]] || second+=("$file")
done

logs=$(mktemp -d "${TMPDIR:-/tmp}/guestkeeper-tests.XXXXXXXX")
# A shell gives what it runs in the background no SIGINT, unless it is told to.
env --default-signal=INT "${pytest[@]}" "${first[@]}" >"$logs/first" 2>&1 </dev/null &
guests=$!
# SIGINT, as Ctrl-C gives it to a run in the foreground: pytest then removes what it made.
trap 'kill -INT "$guests" 2>/dev/null && wait "$guests"; rm -rf "$logs"' EXIT
"${pytest[@]}" -p no:cacheprovider tests/unit tests/property tests/libvirt
others=$?
"${pytest[@]}" -p no:cacheprovider "${second[@]}" >"$logs/second" 2>&1 </dev/null
seconds=$?
wait "$guests"
firsts=$?
cat "$logs/second" "$logs/first"
status=0
for one in "$others" "$seconds" "$firsts"; do
    ((status)) || status=$one
done
if ((others || seconds)); then
    echo "other tests failed too: see above (without guests: $others, with guests: $seconds)" >&2
fi
exit "$status"
