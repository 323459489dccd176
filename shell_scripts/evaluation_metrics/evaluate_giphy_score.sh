#!/bin/sh
# sh shell_scripts/evaluation_metrics/evaluate_giphy_score.sh                 accuracy of the celebrities last drawn by CPE's scripts
# IMG_DIR=images SAVE_EXCEL_PATH=results sh shell_scripts/evaluation_metrics/evaluate_giphy_score.sh      of any folder
# sh shell_scripts/evaluation_metrics/evaluate_giphy_score.sh --predictions result.csv      answers that the detector gave elsewhere
#
# Arguments go to eval-scripts/evaluate_giphy.py.
set -eu
. "$(dirname "$0")/common.sh"
IMG_DIR=${IMG_DIR:-$(newest '*/*/erased')}
SAVE_EXCEL_PATH=${SAVE_EXCEL_PATH:-${IMG_DIR}_giphy}

need IMG_DIR "$IMG_DIR" "images of celebrities"
run eval-scripts/evaluate_giphy.py --image_folder "$IMG_DIR" --save_excel_path "$SAVE_EXCEL_PATH" "$@"
