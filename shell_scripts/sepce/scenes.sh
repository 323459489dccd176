#!/bin/sh
# sh shell_scripts/sepce/scenes.sh                            a scene of the paper: concepts are erased and restored in turns
# SCENE=3 CATEGORY=object sh shell_scripts/sepce/scenes.sh    another one: 1 to 4, of styles or objects
# SCENE=5 EVENTS='+0,1 -0 +2' sh shell_scripts/sepce/scenes.sh      one of your own: erase, restore, erase
# sh shell_scripts/sepce/scenes.sh --resume                   arguments go to each methods/sepce/SRS_ME.py
#
# An event is one time: + erases, - restores, . is a time without one. A concept that is erased is hidden from all that were
# erased before or are with it, and from the watermark prompts. After time T the model is models/SRS-ME-{category}-scene{S}-time{T}.
set -eu
. "$(dirname "$0")/common.sh"
SCENE=${SCENE:-1}
CATEGORY=${CATEGORY:-style}
SCENES=${SCENES:-.}                # holds scene/scene{S}/{T}/{index}.safetensors
WATERMARKS=${WATERMARKS-9,10}      # their indexes; empty: none
ITERATIONS=${ITERATIONS:-}
DATA=${DATA:-data}
case ${EVENTS:+own}$SCENE in
own*) ;;
1) EVENTS='+0,1,2,3,4,5 -0,1 . -2' ;;
2) EVENTS='+0,1,2,3,4,5 -3,4 . -5' ;;
3) EVENTS='+0,2,4 -0,2 +1,3 -1 +5' ;;
4) EVENTS='+0,1,2 -0 +3,4 -1 +5 -2' ;;
*) echo "scenes: the paper has scenes 1 to 4; describe $SCENE yourself: EVENTS='+0,1 -0' sh $0" >&2 && exit 2 ;;
esac
if [ "$FAMILY" = sd ]; then # the paper's numbers
    set -- --lr 1e-1 --scale_factor 1e-4 --threshold 1e-4 --reg_beta 1e-6 "$@"
fi

without() { # without INDEX LIST: the list but for the index
    echo "$2" | tr , '\n' | grep -vx "$1" | paste -sd , -
}

edit_of() { echo "SRS-ME-$CATEGORY-scene$SCENE-concept$1"; }

# erase INDEX ARGUMENTS...
erase() {
    index=$1
    shift
    with_base methods/sepce/SRSME_Solution.py --erase_cat "$CATEGORY" --erased_index "$index" --out "$SCENES" \
        --em_indexes "$(without "$index" "$known${WATERMARKS:+,$WATERMARKS}")" --scenei "$SCENE" --timei "$time"
    with_base methods/sepce/SRS_ME.py --erase_cat "$CATEGORY" --erased_index "$index" --bases_dir "$SCENES" \
        --scenei "$SCENE" --timei "$time" --exp_name "$(edit_of "$index")" --data_root "$DATA" \
        ${ITERATIONS:+--iter_break "$ITERATIONS"} "$@"
    erased=$erased${erased:+,}$index
}

restore() { erased=$(without "$1" "$erased"); }

# the model of all that is erased now
merge() {
    set --
    for index in $(echo "$erased" | tr , ' '); do set -- "$@" "$(edit_of "$index")"; done
    if [ $# -gt 0 ]; then
        run methods/sepce/Merge_model.py --edits "$@" --out "SRS-ME-$CATEGORY-scene$SCENE-time$time" --force
    else
        echo "scenes: at time $time nothing is erased: the model is the base"
    fi
}

time=0 known= erased=
for event in $EVENTS; do
    concepts=${event#?}
    echo "scenes: time $time: $event"
    case $event in
    +*)
        for index in $(echo "$concepts" | tr , ' '); do
            case ,$known, in *,"$index",*) echo "scenes: concept $index is erased twice" >&2 && exit 2 ;; esac
            known=$known${known:+,}$index
        done
        each erase "$concepts" "$@"
        ;;
    -*) each restore "$concepts" ;;
    .) ;;
    *) echo "scenes: $event is no event: +, - or . and indexes, as in +0,1" >&2 && exit 2 ;;
    esac
    if [ "$event" != . ]; then merge; fi
    time=$((time + 1))
done
