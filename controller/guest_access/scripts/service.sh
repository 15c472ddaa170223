# shellcheck shell=dash disable=SC2154,SC2034
# One service of an apply: packages, files, unit. Follows apply.sh, whose head tells the rules.

# $1 name, $2 unit or '', $3 reload, restart or none.
gk_service_begin() {
    gk_service=$1
    gk_unit=$2
    gk_on_change=$3
    gk_failed=no
    gk_staged=
    gk_reload_units=no
    gk_was_active=no
    gk_pending=$gk_dir/pending.$1
    gk_debt=
    if [ -n "$gk_unit" ]; then
        gk_first_line "$gk_pending"
        gk_debt=$gk_line
        gk_unit_state
        { gk_is_active || [ "$gk_ran" = yes ]; } && gk_was_active=yes
    fi
    return 0
}

# $1: what the unit owes if we are killed now: 'change' (onChange), or 'restart' where it runs, or
# is about to be started by its package, without ever having seen our files.
gk_owe() {
    [ -n "$gk_unit" ] || return 0
    [ "$gk_was_active" = yes ] && gk_owed=$1 || gk_owed=restart
    [ "$gk_debt" != restart ] || gk_owed=restart
    [ "$gk_debt" = "$gk_owed" ] || printf '%s\n' "$gk_owed" >|"$gk_pending"
    gk_debt=$gk_owed
}

# Sets gk_active, gk_enabled, gk_stale (needs daemon-reload) of gk_unit from gk_facts: the latest.
# gk_oneshot: it ends when it has done its work; gk_ran: it has, since the guest started. systemd
# forgets a unit that nothing wants once it has ended, hence a note of our own.
gk_unit_state() {
    gk_oneshot=no
    gk_ran=no
    gk_active=
    gk_enabled=
    gk_stale=no
    gk_names=
    gk_a=
    gk_e=
    gk_s=no
    gk_o=
    gk_r=
    while IFS= read -r gk_line; do
        case $gk_line in
        Names=*) gk_names=" ${gk_line#*=} " ;;
        ActiveState=*) gk_a=${gk_line#*=} ;;
        UnitFileState=*) gk_e=${gk_line#*=} ;;
        NeedDaemonReload=*) gk_s=${gk_line#*=} ;;
        Type=oneshot | RemainAfterExit=no) gk_o=$gk_o$gk_line ;;
        Result=success) gk_r=$gk_r$gk_line ;;
        ExecMainExitTimestampMonotonic=[1-9]*) gk_r=${gk_r}exited ;;
        '')
            case $gk_names in
            *" $gk_unit "*)
                gk_active=$gk_a
                gk_enabled=$gk_e
                gk_stale=$gk_s
                gk_one_shot
                ;;
            esac
            gk_names=
            gk_a=
            gk_e=
            gk_s=no
            gk_o=
            gk_r=
            ;;
        esac
    done <<GK_EOF
$gk_facts

GK_EOF
}

# Sets gk_oneshot and gk_ran by what was read of the unit, whose lines come in any order.
gk_one_shot() {
    gk_oneshot=no
    gk_ran=no
    case $gk_o in
    *Type=oneshot*RemainAfterExit=no* | *RemainAfterExit=no*Type=oneshot*) gk_oneshot=yes ;;
    esac
    [ "$gk_oneshot$gk_a" = yesinactive ] || return 0
    case $gk_r in
    *Result=success*exited* | *exited*Result=success*) gk_ran=yes ;;
    esac
    [ ! -e "$gk_dir/ran.$gk_unit" ] || gk_ran=yes
}

gk_is_active() {
    case $gk_active in
    active | reloading | refreshing) return 0 ;;
    esac
    return 1
}

# $1: NAME, NAME:ARCH (Debian) or NAME.ARCH (RPM).
gk_has_package() {
    case $gk_package_facts in
    *"${gk_nl}package$gk_tab$1${gk_tab}installed$gk_tab"*) return 0 ;;
    *"${gk_nl}package$gk_tab${1%[:.]*}${gk_tab}installed$gk_tab${1##*[:.]}$gk_tab"*) return 0 ;;
    *"${gk_nl}package$gk_tab${1%:*}${gk_tab}installed${gk_tab}all$gk_tab"*) return 0 ;;
    esac
    return 1
}

# $@: the packages that the service needs.
gk_packages() {
    gk_wanted=$#
    while [ "$gk_wanted" -gt 0 ]; do
        gk_has_package "$1" || set -- "$@" "$1"
        shift
        gk_wanted=$((gk_wanted - 1))
    done
    [ $# -gt 0 ] || return 0
    [ "$gk_was_active" = yes ] || gk_owe restart
    gk_packages_done=yes
    gk_units_moved=yes
    case $gk_family in
    debian) gk_apt "$@" ;;
    rhel) gk_run install "$(command -v dnf || echo yum)" -y -q \
        --setopt=install_weak_deps=False install "$@" ;;
    esac
    [ "$gk_failed" = no ] || return 0
    gk_package_facts=$gk_nl$(gk_ask_packages)$gk_nl
    for gk_name; do
        if ! gk_has_package "$gk_name"; then
            gk_refuse install "no package of the name $gk_name is there after installing it: name the real package, not one that it provides"
            return 0
        fi
    done
    gk_done=yes
}

gk_apt() {
    # A lock that another apt holds is waited for; files of ours that a package would ask about stay.
    set -- env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -y -q \
        -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold --no-install-recommends install "$@"
    for gk_path in "$gk_root"/var/lib/apt/lists/*_Packages*; do
        break
    done
    if [ -e "$gk_path" ] && "$@" >|"$gk_log" 2>&1 </dev/null 9>&-; then
        return 0
    fi
    # Lists missing or outdated, or dpkg interrupted by an apply that was killed.
    DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --configure -a \
        >|"$gk_log" 2>&1 </dev/null 9>&-
    gk_run update apt-get -q -o Acquire::Retries=2 -o Acquire::http::Timeout=30 update || return 0
    gk_run install "$@"
}

# $1 path, $2 owner, $3 group, $4 mode, $5 and $6: the lines that gk_look_files prints once it is
# in place. Stdin: its content in base64. Staged only; gk_files moves.
gk_file() {
    [ "$gk_failed" = no ] || return 0
    case $gk_facts in
    *"$gk_nl$5$gk_nl"*)
        case $gk_facts in
        *"$gk_nl$6$gk_nl"*) return 0 ;;
        esac
        ;;
    esac
    gk_parent=${1%/*}
    if [ ! -d "${gk_parent:-/}" ]; then
        gk_run "file $1" mkdir -p -- "$gk_parent" || return 0
        gk_relabel -R "$gk_parent"
    fi
    if [ ! -L "$1" ] && [ -e "$1" ] && [ ! -f "$1" ]; then
        gk_refuse "file $1" "a directory or device stands at $1; remove it"
        return 0
    fi
    # What an apply that was killed left here.
    for gk_temp in "$gk_parent"/.gk-tmp.*; do
        case ${gk_temp##*/} in
        ".gk-tmp.$gk_token".* | '.gk-tmp.*') ;;
        *) rm -f -- "$gk_temp" ;;
        esac
    done
    gk_number=$((gk_number + 1))
    gk_temp=$gk_parent/.gk-tmp.$gk_token.$gk_number
    [ "$4" = 644 ] || umask 077
    base64 -d 2>|"$gk_log" >"$gk_temp"
    gk_code=$?
    umask 022
    gk_staged=$gk_staged$gk_temp$gk_nl$1$gk_nl
    if [ "$gk_code" -ne 0 ]; then
        gk_fail "file $1" "$gk_code"
        return 0
    fi
    { [ "$2:$3:$gk_uid" = root:root:0 ] && [ ! -g "$gk_parent" ]; } ||
        gk_run "file $1" chown -h -- "$2:$3" "$gk_temp" || return 0
    # After chown, which clears set-user-id.
    case $4 in
    600 | 644) ;;
    *) gk_run "file $1" chmod -- "$4" "$gk_temp" || return 0 ;;
    esac
    case $1 in
    /etc/systemd/* | /usr/lib/systemd/* | /lib/systemd/* | /usr/local/lib/systemd/* | /run/systemd/*)
        gk_reload_units=yes
        ;;
    esac
}

# Moves the staged files into place, all or (before the first move) none.
gk_files() {
    [ -n "$gk_staged" ] || return 0
    [ "$gk_failed" = yes ] || gk_owe change
    while IFS= read -r gk_temp && IFS= read -r gk_path && [ -n "$gk_temp" ]; do
        if [ "$gk_failed" = yes ]; then
            rm -f -- "$gk_temp"
        elif gk_run "file $gk_path" mv -fT -- "$gk_temp" "$gk_path"; then
            gk_done=yes
            gk_relabel "$gk_path"
        fi
    done <<GK_EOF
$gk_staged
GK_EOF
}

# $1: a verb of systemctl. A failure brings the unit's state and last messages along.
gk_systemctl() {
    systemctl "$1" "$gk_unit" >|"$gk_log" 2>&1 </dev/null 9>&-
    gk_code=$?
    if [ "$gk_code" -ne 0 ]; then
        systemctl status --no-pager --full --lines=12 -- "$gk_unit" >>"$gk_log" 2>&1 </dev/null 9>&-
        gk_fail "systemctl $1 $gk_unit" "$gk_code"
        return 1
    fi
    gk_units_moved=yes
    gk_done=yes
}

# A oneshot's start ends when its work is done.
gk_start() {
    [ "$gk_oneshot" = no ] || rm -f -- "$gk_dir/ran.$gk_unit"
    gk_systemctl start || return 1
    [ "$gk_oneshot" = no ] || : >|"$gk_dir/ran.$gk_unit"
}

# Enables and starts the unit, and lets it take up what changed.
gk_service_end() {
    [ "$gk_failed" = no ] || return 0
    if [ "$gk_reload_units" = yes ]; then
        gk_run 'systemctl daemon-reload' systemctl daemon-reload || return 0
        gk_units_moved=yes
    fi
    [ -n "$gk_unit" ] || return 0
    if [ "$gk_units_moved" = yes ]; then # since the facts were asked
        gk_facts=$gk_facts$gk_nl$(gk_look_units "$gk_unit")$gk_nl$gk_nl
        gk_unit_state
    fi
    if [ "$gk_stale" = yes ]; then # an apply that was killed moved a unit file and no more
        gk_run 'systemctl daemon-reload' systemctl daemon-reload || return 0
    fi
    if [ "$gk_ran" = yes ]; then
        case $gk_debt:$gk_on_change in
        :* | change:none) ;;
        *) gk_start || return 0 ;;
        esac
    elif ! gk_is_active; then
        # Else a unit that failed too often cannot be started for a while.
        [ "$gk_active" != failed ] || systemctl reset-failed "$gk_unit" >/dev/null 2>&1 </dev/null
        gk_start || return 0
    elif [ "$gk_debt" = restart ]; then
        gk_systemctl restart || return 0
    elif [ "$gk_debt" = change ] && [ "$gk_on_change" != none ]; then
        gk_systemctl "$gk_on_change" || return 0
    fi
    [ -z "$gk_debt" ] || rm -f -- "$gk_pending"
    gk_debt=
    # Last: it reads every unit anew, and whoever waits for the service waits for its start alone.
    case $gk_enabled in
    disabled | linked | linked-runtime | enabled-runtime) gk_systemctl enable ;;
    esac
}
