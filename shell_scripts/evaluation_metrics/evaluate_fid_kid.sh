#!/bin/sh
# sh shell_scripts/evaluation_metrics/evaluate_fid_kid.sh      KID of the remaining concepts last drawn, against the unmodified model's
# IMG_DIR1=images/coco IMG_DIR2=coco/val2014 MODE=FID sh shell_scripts/evaluation_metrics/evaluate_fid_kid.sh      of any two folders
#
# Arguments go to eval-scripts/evaluate_fid_score.py.
set -eu
. "$(dirname "$0")/common.sh"
IMG_DIR1=${IMG_DIR1:-$(newest '*/guide*/remained')}
IMG_DIR2=${IMG_DIR2:-$(newest '*/original/remained')}
MODE=${MODE:-KID}

need IMG_DIR1 "$IMG_DIR1" "images of remaining concepts"
need IMG_DIR2 "$IMG_DIR2" "images of remaining concepts by the unmodified model (MODEL_PATH= in front of a generate script)"
run eval-scripts/evaluate_fid_score.py --dir1 "$IMG_DIR1" --dir2 "$IMG_DIR2" --mode "$MODE" "$@"
