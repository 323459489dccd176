#!/bin/sh
# sh shell_scripts/sepce/data.sh                              pictures of every class: to erase with, and for the classifier
# NUM_IMAGES=20 DATA=mine sh shell_scripts/sepce/data.sh      fewer, elsewhere
# sh shell_scripts/sepce/data.sh --ddim_steps 50              arguments go to each eval-scripts/generate-data.py
#
# CLASSES is a CSV index,prompt,aliases. A second run draws only what is missing.
set -eu
. "$(dirname "$0")/common.sh"
DATA=${DATA:-data}
if [ "$FAMILY" = sd ]; then
    CLASSES=${CLASSES:-data/artist_classes.csv}
    NUM_IMAGES=${NUM_IMAGES:-1000}
else
    CLASSES=${CLASSES:-data/artist_classes_toy.csv}
    NUM_IMAGES=${NUM_IMAGES:-32}
fi
CLASSES=$(find_path "$CLASSES")

tail -n +2 "$CLASSES" | tr -d '\r' | while IFS=, read -r index prompt aliases || [ -n "$index" ]; do
    with_base eval-scripts/generate-data.py --prompt "$prompt" --model_name "$index" --save_path "$DATA" \
        --num_samples 1 --num_images "$NUM_IMAGES" --sequential_seeds "$@" </dev/null
done
run methods/sepce/make_dataset.py --path "$DATA" --classes "$CLASSES"
