#!/bin/sh
# sh shell_scripts/evaluation_metrics/evaluate_clip_score.sh                 CLIP score of the celebrities last drawn by CPE's scripts
# IMG_DIR=images PROMPT_CSV=prompts.csv sh shell_scripts/evaluation_metrics/evaluate_clip_score.sh      of any folder
#
# A folder with an index.csv or manifest.json needs no PROMPT_CSV. Arguments go to eval-scripts/evaluate_clip_score.py.
set -eu
. "$(dirname "$0")/common.sh"
IMG_DIR=${IMG_DIR:-$(newest '*/*/erased')}
PROMPT_CSV=${PROMPT_CSV:-}

need IMG_DIR "$IMG_DIR" "images of erased concepts"
run eval-scripts/evaluate_clip_score.py --image_dir "$IMG_DIR" ${PROMPT_CSV:+--prompts_path "$PROMPT_CSV"} "$@"
