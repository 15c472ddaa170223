#!/usr/bin/env bash
# Shows that the tests without guests are true at any time of day and however busy the machine is: they run
# at four times of day, each in another time zone, and then under nice beside two busy loops (that takes many times
# as long as the others).
#
#   steady.sh [PYTEST'S ARGUMENTS]     instead of all tests without guests
#
# Exits with the first status that is not 0, after all five runs; takes five times as long as these tests do.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
if (($# == 0)); then
    set -- tests/unit tests/property tests/libvirt
fi
pytest=(.venv/bin/python -m pytest -q -p no:cacheprovider)
status=0
report=()

run() { # NAME COMMAND...
    local name=$1 ended=0
    shift
    echo "--- $name"
    "$@" || ended=$?
    report+=("$name: $( ((ended)) && echo "failed ($ended)" || echo good)")
    ((status)) || status=$ended
}

# Each begins seconds before a moment at which something may turn: midnight, the hour of maintenance
# windows, the end of the morning, the last minute of a day elsewhere.
moments=(23:59:50@UTC 02:59:50@Europe/Berlin 11:59:50@Pacific/Chatham 18:29:50@America/New_York)
for moment in "${moments[@]}"; do
    zone=${moment#*@}
    now=$(date +%s)
    then=$(TZ=$zone date --date "${moment%@*}" +%s)
    ((then > now)) || then=$((then + 86400))
    run "at ${moment%@*} in $zone" env TZ="$zone" GUESTKEEPER_TEST_CLOCK=$((then - now)) \
        PYTHONPATH="tests/steady${PYTHONPATH:+:$PYTHONPATH}" "${pytest[@]}" "$@"
done

loops=()
trap '((${#loops[@]})) && kill "${loops[@]}" 2>/dev/null' EXIT
for _ in 1 2; do
    while :; do :; done &
    loops+=($!)
done
run "under nice beside two busy loops" nice -n 10 "${pytest[@]}" "$@"

printf '\n%s' "${report[@]}"
echo
exit "$status"
