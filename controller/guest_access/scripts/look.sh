# shellcheck shell=dash disable=SC2034
# The facts of a guest, in as few processes as possible: under TCG each costs 10 to 30 ms.
#
# POSIX sh (dash, bash). Fed to "sh -s" on stdin, followed by calls of these functions that
# rendering.py renders with quoted values. What it prints is read by observed/inside_facts.py; every
# line tells by its beginning what it is, and a path stands last on its line, so that nothing
# inside a value can be taken for something else. gk_root is '' but in unit tests.

set -u
# Stub commands of unit tests stand in front; the agent's own PATH may lack the sbins.
PATH=${PATH:-/usr/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
umask 022
: "${gk_root:=}"
gk_nl='
'
gk_tab='	'

# Sets gk_line to the first line of file $1, '' if there is none.
gk_first_line() {
    gk_line=
    if [ -f "$1" ] && [ -r "$1" ]; then
        IFS= read -r gk_line <"$1" || :
    fi
}

gk_look_begin() {
    printf 'guestkeeper-look\t1\n'
}

gk_look_end() {
    printf 'look-end\n'
}

# Boot, hostname, addresses, cloud-init, applies that were cut short.
gk_look_host() {
    gk_first_line "$gk_root/proc/sys/kernel/random/boot_id"
    printf 'boot\t%s\n' "$gk_line"
    gk_first_line "$gk_root/proc/sys/kernel/hostname"
    gk_running=$gk_line
    gk_first_line "$gk_root/etc/hostname"
    printf 'hostname\t%s\t%s\n' "$gk_running" "$gk_line"
    gk_look_addresses
    # "cloud-init status" is a Python program (seconds under TCG); this is what it reads.
    if [ -e "$gk_root/usr/bin/cloud-init" ]; then
        if [ -e "$gk_root/run/cloud-init/disabled" ] || [ ! -d "$gk_root/run/cloud-init" ] ||
            [ -e "$gk_root/etc/cloud/cloud-init.disabled" ]; then
            printf 'cloud-init\tdisabled\n'
        elif [ -e "$gk_root/run/cloud-init/result.json" ]; then
            printf 'cloud-init\tresult\n'
            while IFS= read -r gk_line || [ -n "$gk_line" ]; do
                printf 'cloud-json\t%s\n' "$gk_line"
            done <"$gk_root/run/cloud-init/result.json"
        else
            printf 'cloud-init\trunning\n'
        fi
    fi
    for gk_path in "$gk_root"/run/guestkeeper/pending.*; do
        [ ! -e "$gk_path" ] || printf 'pending\t%s\n' "${gk_path##*/pending.}"
    done
    for gk_path in "$gk_root"/run/guestkeeper/ran.*; do
        [ ! -e "$gk_path" ] || printf 'ran\t%s\n' "${gk_path##*/ran.}"
    done
}

# The addresses, from /proc: "ip addr" costs 70 ms under TCG. "address" lines are IPv4; "inet6"
# lines are those of /proc/net/if_inet6.
gk_look_addresses() {
    if [ -r "$gk_root/proc/net/fib_trie" ]; then
        gk_address=
        while read -r gk_a gk_b gk_line; do
            case $gk_a in
            Main:) gk_address= ;;
            '|--' | '+--') gk_address=$gk_b ;;
            /32) [ "$gk_b $gk_line" != 'host LOCAL' ] || printf 'address\t%s\n' "$gk_address" ;;
            esac
        done <"$gk_root/proc/net/fib_trie"
    fi
    if [ -r "$gk_root/proc/net/if_inet6" ]; then
        while read -r gk_line; do
            printf 'inet6\t%s\n' "$gk_line"
        done <"$gk_root/proc/net/if_inet6"
    fi
}

# $@: the base64 parts of public keys. Prints how many of them root's authorized_keys lacks.
gk_look_keys() {
    gk_missing=0
    gk_read_keys
    for gk_key; do
        gk_has_key "$gk_key" || gk_missing=$((gk_missing + 1))
    done
    printf 'keys-missing\t%s\n' "$gk_missing"
}

# Sets gk_keys to root's authorized keys (each line between blanks), and gk_keys_cut to 'yes' if
# the file's last line has no newline.
gk_read_keys() {
    gk_home=~root
    gk_keys_file=$gk_root$gk_home/.ssh/authorized_keys
    gk_keys=$gk_nl
    gk_keys_cut=no
    [ -f "$gk_keys_file" ] || return 0
    while IFS= read -r gk_line || { [ -n "$gk_line" ] && gk_keys_cut=yes; }; do
        case $gk_line in
        '#'*) ;;
        *) gk_keys="$gk_keys $gk_line $gk_nl" ;;
        esac
    done <"$gk_keys_file"
}

gk_has_key() {
    case $gk_keys in
    *" $1 "*) return 0 ;;
    esac
    return 1
}

# $1: the names asked for. Prints what dpkg-query (100 ms under TCG) said the last time, if it was
# asked for the same and dpkg's database has not been written since.
gk_cached_packages() {
    gk_cache=$gk_root/run/guestkeeper/packages
    [ "$gk_cache" -nt "$gk_root/var/lib/dpkg/status" ] || return 1
    gk_out=
    gk_line=
    {
        IFS= read -r gk_line
        [ "$gk_line" = "$1" ] || return 1
        while IFS= read -r gk_line && [ "$gk_line" != end ]; do
            gk_out=$gk_out$gk_line$gk_nl
        done
    } <"$gk_cache"
    [ "$gk_line" = end ] || return 1 # cut short while it was written
    printf '%s' "$gk_out"
}

# $1: debian or rhel; then package names. One line for each that the package database knows.
gk_look_packages() {
    gk_family=$1
    shift
    [ $# -gt 0 ] || return 0
    case $gk_family in
    debian)
        gk_cached_packages "$*" && return 0
        gk_names=$*
        # dpkg-query knows a package of no architecture (all) by its bare name only, apt by both.
        for gk_name; do
            case $gk_name in
            *:*) set -- "$@" "${gk_name%:*}" ;;
            esac
        done
        gk_out=$(dpkg-query --show --showformat \
            'package\t${Package}\t${db:Status-Status}\t${Architecture}\t${Version}\n' \
            -- "$@" </dev/null 2>/dev/null)
        [ -z "$gk_out" ] || printf '%s\n' "$gk_out"
        [ ! -d "$gk_root/run/guestkeeper" ] ||
            printf '%s\n%s\nend\n' "$gk_names" "$gk_out" >|"$gk_cache"
        ;;
    rhel)
        # rpm says on stdout, too, that a package is not installed.
        gk_out=$(rpm --query --queryformat \
            'package\t%{NAME}\tinstalled\t%{ARCH}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\n' \
            -- "$@" </dev/null 2>/dev/null)
        while IFS= read -r gk_line; do
            case $gk_line in
            "package$gk_tab"*) printf '%s\n' "$gk_line" ;;
            esac
        done <<GK_EOF
$gk_out
GK_EOF
        ;;
    esac
    return 0
}

# $@: paths. A "stat" line for each that exists, and sha256sum's own line for each regular file;
# nothing else may be hashed, since a FIFO would hang and a device never end.
gk_look_files() {
    [ $# -gt 0 ] || return 0
    stat --printf 'stat\t%f\t%U\t%G\t%n\n' -- "$@" </dev/null 2>/dev/null
    gk_count=$#
    while [ "$gk_count" -gt 0 ]; do
        if [ -f "$1" ] && [ ! -L "$1" ]; then
            set -- "$@" "$1"
        fi
        shift
        gk_count=$((gk_count - 1))
    done
    [ $# -eq 0 ] || sha256sum -- "$@" </dev/null 2>/dev/null
    return 0
}

# $@: units. A block of NAME=value lines for each, ended by an empty line.
gk_look_units() {
    [ $# -gt 0 ] || return 0
    systemctl show --no-pager --property=Names,ActiveState,UnitFileState,NeedDaemonReload,Type \
        --property=RemainAfterExit,Result,ExecMainExitTimestampMonotonic \
        -- "$@" </dev/null 2>/dev/null
    printf '\n'
}
