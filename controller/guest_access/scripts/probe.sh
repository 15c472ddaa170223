# shellcheck shell=dash
# Probes asked inside a guest, side by side: each prints one line when it has its answer.
# Fed to "sh -s" on stdin, followed by a gk_probe call for each (probing.py).

PATH=${PATH:-/usr/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
gk_nl='
'

# $1 number, $2 timeout in seconds, then a command.
gk_probe() {
    (
        gk_number=$1
        gk_limit=$2
        shift 2
        gk_text=$(timeout --kill-after=1 "$gk_limit" "$@" </dev/null 2>&1)
        gk_code=$?
        # One short write, so that two answers cannot mix.
        printf 'probe\t%s\t%s\t%.200s\n' "$gk_number" "$gk_code" "${gk_text%%"$gk_nl"*}"
    ) &
}

gk_probe_end() {
    wait
    printf 'probe-end\n'
}
