# The commands of one list of an autoinstall file, one file each (DIR/1, DIR/2 ...), as scripts:
# awk -v list=late-commands -v dir=DIR -f autoinstall.awk
# Not YAML, only what such lists are written in: strings ("..", '..', plain), `|` blocks, and [a, b].
# Exit 1 with a message for anything else, rather than to leave out a command.
function refuse(text) { print "user-data line " NR ": " text > "/dev/stderr"; failed = 1; exit 1 }
function indent(text) { match(text, /^ */); return RLENGTH }
function unquoted(text, rest) {
    if (text ~ /^".*"$/) {
        text = substr(text, 2, length(text) - 2)
        gsub(/\\\\/, "\001", text)
        gsub(/\\"/, "\"", text)
        gsub(/\\n/, "\n", text)
        gsub(/\\t/, "\t", text)
        gsub(/\\\//, "/", text)
        if (text ~ /\\/) refuse("an escape that the stand-in does not know")
        gsub(/\001/, "\\", text)
    } else if (text ~ /^'.*'$/) {
        text = substr(text, 2, length(text) - 2)
        gsub(/''/, "'", text)
    } else if (text ~ /^["'&*!>{-]/) {
        refuse("not a string on one line: " text)
    }
    return text
}
function quoted(text) { gsub(/'/, "'\\''", text); return "'" text "'" }
function start(text, words, parts, i) {
    number++
    file = dir "/" number
    printf "" > file
    if (text ~ /^\|[+-]?$/) { block = 1; depth = -1; return }
    if (text ~ /^\[.*\]$/) {
        parts = split(substr(text, 2, length(text) - 2), words, /[ \t]*,[ \t]+/)
        text = ""
        for (i = 1; i <= parts; i++) text = text quoted(unquoted(words[i])) " "
        print text > file
        return
    }
    print unquoted(text) > file
}
block {
    if ($0 ~ /^[ \t]*$/) { print "" > file; next }
    if (indent($0) > dash) {
        if (depth < 0) depth = indent($0)
        print substr($0, depth + 1) > file
        next
    }
    block = 0
}
/^[ \t]*(#|$)/ { next }
inside {
    if ($0 ~ /^ *- / && indent($0) >= key) {
        dash = indent($0)
        text = $0
        sub(/^ *- +/, "", text)
        start(text)
        next
    }
    if (indent($0) > key) refuse("not an item of a list")
    inside = 0
}
$1 == list ":" {
    if (NF > 1 && $2 != "[]") refuse("a list that does not begin on a line of its own")
    inside = NF == 1
    key = indent($0)
}
END { exit failed }
