#!/bin/sh
# sh shell_scripts/sepce/style.sh                             SepCE's published run against three styles; then one is restored
# ITERATIONS=20 NAME=quick sh shell_scripts/sepce/style.sh    shorter, under another name
# sh shell_scripts/sepce/style.sh --resume                    arguments go to methods/sepce/SepCE.py
#
# Both models are drawn and measured by evaluate.sh, whose variables work here too.
set -eu
. "$(dirname "$0")/common.sh"
NAME=${NAME:-SepCE-styles}
RESTORE=${RESTORE:-Picasso}
DATA=${DATA:-data}
ITERATIONS=${ITERATIONS:-}

if [ "$FAMILY" = sd ]; then
    set -- --lr 1e-2 --scale_factor 1e-4 --reg_beta 3e-5 --thresholds "${THRESHOLDS:-0,0.00015,0}" "$@"
    CONCEPTS=${CONCEPTS:-VanGogh,Cezanne,Picasso}
else
    CONCEPTS=${CONCEPTS:-Van Gogh,Cezanne,Picasso}
fi
with_base methods/sepce/SepCE.py --concepts "$CONCEPTS" --exp_name "$NAME" --data_root "$DATA" \
    ${ITERATIONS:+--iter_break "$ITERATIONS"} "$@"
run methods/sepce/Merge_model.py --edits "$NAME" --restore "$RESTORE" --out "$NAME-restored" --force
MODELS="$NAME,$NAME-restored" exec sh "$ROOT/shell_scripts/sepce/evaluate.sh"
