#!/bin/sh
# sh shell_scripts/rece/object.sh                    RECE's published runs against objects, one after the other
# HARD=Church EASY= sh shell_scripts/rece/object.sh  only some of them: comma lists
# sh shell_scripts/rece/object.sh --no_validate      arguments go to each methods/rece/train_object.py
set -eu
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
HARD=${HARD-Church,Garbage Truck}                   # lambda 1e-3: hard for UCE
EASY=${EASY-English Springer,Golf Ball,Parachute}   # lambda 0.1
EPOCHS=${EPOCHS:-1}

sh "$ROOT/shell_scripts/setup.sh"

# erase LAMBDA LIST ARGUMENTS...
erase() {
    regular_scale=$1
    list=$2
    shift 2
    while [ -n "$list" ]; do
        concept=${list%%,*}
        case $list in
        *,*) list=${list#*,} ;;
        *) list= ;;
        esac
        "$ROOT/.venv/bin/python" "$ROOT/methods/rece/train_object.py" --concepts "$concept" --concept_type object \
            --emb_computing close_regzero --regular_scale "$regular_scale" --epochs "$EPOCHS" "$@"
    done
}

erase 1e-3 "$HARD" "$@"
erase 0.1 "$EASY" "$@"
