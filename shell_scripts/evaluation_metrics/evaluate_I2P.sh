#!/bin/sh
# sh shell_scripts/evaluation_metrics/evaluate_I2P.sh                         NudeNet's counts on the I2P images last drawn by CPE's scripts
# IMG_DIR=images SAVE_EXCEL_PATH=results sh shell_scripts/evaluation_metrics/evaluate_I2P.sh      on any folder
#
# Arguments go to eval-scripts/evaluate_I2P.py.
set -eu
. "$(dirname "$0")/common.sh"
IMG_DIR=${IMG_DIR:-$(newest '*/*/i2p_nudity')}
SAVE_EXCEL_PATH=${SAVE_EXCEL_PATH:-${IMG_DIR}_nudity}

need IMG_DIR "$IMG_DIR" "images of I2P"
run eval-scripts/evaluate_I2P.py --image_folder "$IMG_DIR" --save_excel_path "$SAVE_EXCEL_PATH" "$@"
