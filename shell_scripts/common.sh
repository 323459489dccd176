#!/bin/sh
# . shell_scripts/common.sh             what the scripts of the folders here share; alone it only sets up
# BASE=toy, BASE=path/to/a/checkpoint   in front of any of them: another base model (BASE_CONFIG=… its configuration)
#
# Without BASE it is Stable Diffusion v1.4 where that is installed, else the embedded model. Sets FAMILY to sd or toy:
# published numbers are for sd, the embedded model has presets and prompts of its own (FAMILY=toy: so has another small BASE).
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
BASE=${BASE:-}
BASE_CONFIG=${BASE_CONFIG:-}
SD_CKPT=models/ldm/stable-diffusion-v1/sd-v1-4-full-ema.ckpt

# A file or folder as the commands look for it: here, else in the repository.
find_path() {
    if [ ! -e "$1" ] && [ -e "$ROOT/$1" ]; then echo "$ROOT/$1"; else echo "$1"; fi
}

if [ -z "${FAMILY:-}" ]; then
    FAMILY=sd
    case $BASE in
    toy | toy-v1) FAMILY=toy ;;
    "") if [ ! -e "$(find_path "$SD_CKPT")" ] && [ ! -e "$(find_path "${SD_CKPT%.ckpt}.safetensors")" ]; then FAMILY=toy; fi ;;
    esac
fi

# run SCRIPT ARGUMENTS...           a command of the repository
run() {
    script=$1
    shift
    "$ROOT/.venv/bin/python" "$ROOT/$script" "$@"
}

# with_base SCRIPT ARGUMENTS...     one that takes a base model
with_base() { run "$@" ${BASE:+--ckpt_path "$BASE"} ${BASE_CONFIG:+--config_path "$BASE_CONFIG"}; }

# each COMMAND LIST ARGUMENTS...    COMMAND ITEM ARGUMENTS... for every item of a comma list
each() {
    command=$1
    list=$2
    shift 2
    while [ -n "$list" ]; do
        item=${list%%,*}
        case $list in
        *,*) list=${list#*,} ;;
        *) list= ;;
        esac
        "$command" "$item" "$@"
    done
}

sh "$ROOT/shell_scripts/setup.sh"
