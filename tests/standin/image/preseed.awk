# The value of one question of a preseed file: awk -v question=preseed/late_command -f preseed.awk
# A line that ends with a backslash goes on; the last answer counts.
{
    line = $0
    while (line ~ /\\$/ && (getline more) > 0) line = substr(line, 1, length(line) - 1) more
    if (line !~ /^[ \t]*#/) {
        split(line, word)
        if (word[2] == question) {
            sub(/^[ \t]*[^ \t]+[ \t]+[^ \t]+[ \t]+[^ \t]+[ \t]*/, "", line)
            value = line
        }
    }
}
END { print value }
