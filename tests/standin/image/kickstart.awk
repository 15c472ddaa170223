# Takes a kickstart apart: its commands to DIR/commands, each script to DIR/NN.body, and one line
# "NN TYPE OPTIONS" for each to DIR/scripts. Lists of packages and add-ons are read over.
# Exit 1 with a message where a section has no end.
function refuse(text) { print "kickstart line " NR ": " text > "/dev/stderr"; failed = 1; exit 1 }
/^%end/ {
    if (section == "") refuse("%end without a section")
    section = ""
    next
}
section == "" && /^%include[ \t]/ { refuse("%include is not known to the stand-in") }
section == "" && /^%(pre|pre-install|post|onerror)([ \t]|$)/ {
    section = substr($1, 2)
    options = $0
    sub(/^%[a-z-]+[ \t]*/, "", options)
    number++
    printf "%d %s %s\n", number, section, options > (dir "/scripts")
    body = dir "/" number ".body"
    printf "" > body
    next
}
section == "" && /^%/ { section = substr($1, 2); body = ""; next }
section != "" {
    if ($0 ~ /^%(pre|post|onerror|packages|addon)([ \t]|$)/) refuse("%" section " has no %end")
    if (body != "") print > body
    next
}
/^[ \t]*(#|$)/ { next }
{ print > (dir "/commands") }
END { if (!failed && section != "") { print "kickstart: %" section " has no %end" > "/dev/stderr"; exit 1 } }
