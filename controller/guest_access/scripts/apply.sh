# shellcheck shell=dash disable=SC2154,SC2030,SC2031,SC2034
# Makes a guest what its services say. Follows look.sh; idempotent, and killed at any point and run
# again it ends in the same state:
# - a file is written beside its place and moved there, so a path holds the old or the new content;
# - that a unit has yet to take up a change is kept in /run/guestkeeper/pending.SERVICE until it
#   did. A reboot forgets that rightly, since it starts the unit with the new files;
# - a lock keeps a second apply (a restarted daemon's) out while a first still runs.
# Only what differs is touched. A command that fails ends its service, not the others.
# Contents and keys arrive on stdin alone, never as arguments, and are never printed.

gk_service=
gk_failed=no
gk_done=no
gk_packages_done=no
gk_units_moved=no

# --- Reports --------------------------------------------------------------------------------------

# $1 action, $2 exit code; the reason stands in the log. Nothing more is done for this service.
gk_fail() {
    gk_failed=yes
    gk_done=yes
    printf 'error\t%s\t%s\t%s\n' "$gk_service" "$2" "$1"
    tail -n 20 "$gk_log" </dev/null 2>/dev/null | while IFS= read -r gk_line || [ -n "$gk_line" ]; do
        printf 'output\t%s\n' "$gk_line"
    done
}

# $1 action, $2 message: fails for a reason of our own.
gk_refuse() {
    printf '%s\n' "$2" >|"$gk_log"
    gk_fail "$1" 1
}

# $1 action, then a command; false when it failed. What it prints goes to a file and not to our
# stdout: a daemon that it leaves behind would hold that open, and the exec would never end.
gk_run() {
    gk_action=$1
    shift
    "$@" >|"$gk_log" 2>&1 </dev/null 9>&-
    gk_code=$?
    [ "$gk_code" -eq 0 ] || gk_fail "$gk_action" "$gk_code"
    return "$gk_code"
}

# --- Begin and end --------------------------------------------------------------------------------

# $1: a random word for names of temporary files; $2: the guest's family.
gk_apply_begin() {
    gk_token=$1
    gk_family=$2
    printf 'guestkeeper-apply\t1\n'
    gk_dir=$gk_root/run/guestkeeper
    [ -d "$gk_dir" ] || (umask 077 && mkdir -p "$gk_dir")
    gk_log=$gk_dir/log
    if command -v flock >/dev/null; then
        exec 9>|"$gk_dir/lock"
        if ! flock -w 20 9; then
            printf 'busy\n'
            exit 0
        fi
    fi
    set -C # > makes a file or fails: it never follows a link that somebody put there
    gk_package_facts=$gk_nl$(gk_ask_packages)$gk_nl
    gk_facts=$gk_nl$(gk_ask)$gk_nl
}

# Prints all facts; they are asked again as far as anything was changed.
gk_apply_end() {
    gk_look_begin
    if [ "$gk_packages_done" = yes ]; then
        gk_ask_packages
    else
        printf '%s' "${gk_package_facts#"$gk_nl"}"
    fi
    if [ "$gk_done" = yes ]; then
        gk_ask
    else
        printf '%s\n' "${gk_facts#"$gk_nl"}"
    fi
    gk_look_end
}

gk_relabel() {
    if command -v restorecon >/dev/null; then
        restorecon "$@" >/dev/null 2>&1 </dev/null || :
    fi
}

# --- Identity -------------------------------------------------------------------------------------

# $1: the hostname. Written by hand: hostnamectl starts a service (a second under TCG) to do just
# this. The running name is set last, so that an interrupted change is seen and repeated.
gk_hostname() {
    gk_service=
    gk_failed=no
    case $gk_facts in
    *"${gk_nl}hostname$gk_tab$1$gk_tab$1$gk_nl"*) return 0 ;;
    esac
    gk_hosts "$1"
    [ "$gk_failed" = no ] || return 0
    gk_first_line "$gk_root/etc/hostname"
    if [ "$gk_line" != "$1" ]; then
        gk_replace_etc hostname "$1" || return 0
    fi
    if ! printf '%s\n' "$1" 2>/dev/null >|"$gk_root/proc/sys/kernel/hostname"; then
        gk_run hostname hostname "$1" || return 0
    fi
    gk_done=yes
}

# The name must resolve to this machine: Debian's convention is a line for 127.0.1.1.
gk_hosts() {
    gk_text=
    gk_found=no
    if [ -f "$gk_root/etc/hosts" ]; then
        while IFS= read -r gk_line || [ -n "$gk_line" ]; do
            case $gk_line in
            127.0.1.1[" $gk_tab"]*)
                [ "$gk_found" = no ] || continue
                gk_found=yes
                gk_line="127.0.1.1 $1"
                ;;
            esac
            gk_text=$gk_text$gk_line$gk_nl
        done <"$gk_root/etc/hosts"
    fi
    [ "$gk_found" = yes ] || gk_text="${gk_text}127.0.1.1 $1$gk_nl"
    gk_replace_etc hosts "${gk_text%"$gk_nl"}"
}

# $1: a file of /etc that anybody may read; $2: its whole text.
gk_replace_etc() {
    rm -f "$gk_root/etc/.gk-$1"
    if ! printf '%s\n' "$2" 2>/dev/null >"$gk_root/etc/.gk-$1"; then
        gk_refuse hostname "cannot write /etc/.gk-$1"
        return 1
    fi
    gk_run hostname mv -fT "$gk_root/etc/.gk-$1" "$gk_root/etc/$1" || return 1
    gk_relabel "$gk_root/etc/$1"
}

# $@: pairs of a key's base64 part and its whole line. Only adds.
gk_ssh_keys() {
    gk_service=
    gk_failed=no
    gk_read_keys
    gk_count=0
    while [ $# -ge 2 ]; do
        if ! gk_has_key "$1"; then
            if [ "$gk_count" -eq 0 ]; then
                [ -d "${gk_keys_file%/*}" ] ||
                    gk_run ssh-keys mkdir -m 700 "${gk_keys_file%/*}" || return 0
                [ -e "$gk_keys_file" ] || (umask 077 && : >"$gk_keys_file")
                [ "$gk_keys_cut" = no ] || printf '\n' >>"$gk_keys_file"
            fi
            if ! printf '%s\n' "$2" 2>/dev/null >>"$gk_keys_file"; then
                gk_refuse ssh-keys "cannot write $gk_keys_file"
                return 0
            fi
            gk_keys="$gk_keys $2 $gk_nl"
            gk_count=$((gk_count + 1))
        fi
        shift 2
    done
    [ "$gk_count" -gt 0 ] || return 0
    # sshd ignores keys that others could write.
    gk_run ssh-keys chmod go-w "${gk_keys_file%/*}" "$gk_keys_file" || return 0
    gk_relabel -R "${gk_keys_file%/*}"
    gk_done=yes
}

gk_number=0
gk_uid=1
while read -r gk_key gk_line; do
    if [ "$gk_key" = Uid: ]; then
        gk_uid=${gk_line%%[!0-9]*}
        break
    fi
done </proc/self/status
