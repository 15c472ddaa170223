# shellcheck shell=dash
# A probe asked inside a guest: prints one line when it has its answer.
# Fed to "sh -s" on stdin, followed by a call of gk_probe (probing.py).

PATH=${PATH:-/usr/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
gk_nl='
'

# $1 timeout in seconds, then a command.
gk_probe() {
    gk_text=$(timeout --kill-after=1 "$@" </dev/null 2>&1)
    gk_code=$?
    printf 'probe\t%s\t%.200s\n' "$gk_code" "${gk_text%%"$gk_nl"*}"
}
