#!/bin/sh
# . shell_scripts/evaluation_metrics/common.sh      what the scripts here share
. "$(dirname "$0")/../common.sh"

# newest PATTERN                        the folder last written to that generated_images has by the pattern, here or in the repository
newest() {
    for place in . "$ROOT"; do
        # the pattern is to be expanded; names of folders have no line breaks
        found=$(cd "$place" && ls -td generated_images/$1/ 2>/dev/null | head -n 1)
        if [ -n "$found" ]; then
            echo "${found%/}"
            return
        fi
    done
}

# need NAME VALUE WHAT                  a variable that must have a value
need() {
    if [ -z "$2" ]; then
        echo "$(basename "$0" .sh): no $3 in generated_images: generate some first, or name their folder: $1=... sh $0" >&2
        exit 2
    fi
    echo "$1=$2"
}
