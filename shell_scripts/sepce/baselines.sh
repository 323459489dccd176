#!/bin/sh
# sh shell_scripts/sepce/baselines.sh                         the published runs of FMN, Abconcept, Esd and CiE for one concept
# CONCEPT=Picasso METHODS=FMN,CiE sh shell_scripts/sepce/baselines.sh      another concept, some of them
# ITERATIONS=10 sh shell_scripts/sepce/baselines.sh --seed 1  arguments go to each of them
set -eu
. "$(dirname "$0")/common.sh"
CONCEPT=${CONCEPT:-Van Gogh}
METHODS=${METHODS:-FMN,Abconcept,Esd,CiE}
ITERATIONS=${ITERATIONS:-}
DATA=${DATA:-data}

# erase METHOD ARGUMENTS...
erase() {
    method=$1
    shift
    if [ "$FAMILY" = sd ]; then
        case $method in
        FMN) set -- --lr 1e-5 --iter_break 10 "$@" ;;
        Abconcept) set -- --lr 1e-5 --iter_break 50 "$@" ;;
        Esd) set -- --train_method xattn --iterations 1000 "$@" ;;
        CiE) set -- --threshold 0 --lr 1e-6 --reg_beta 3e-5 "$@" ;;
        esac
    fi
    if [ "$method" != Esd ]; then set -- --data_root "$DATA" "$@"; fi # which draws latents, and needs no pictures
    with_base "methods/sepce/$method.py" --prompt "$CONCEPT" "$@"
}

each erase "$METHODS" ${ITERATIONS:+--iter_break "$ITERATIONS"} "$@"
