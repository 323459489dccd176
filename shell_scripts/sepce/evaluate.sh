#!/bin/sh
# sh shell_scripts/sepce/evaluate.sh                          draw the base and the model of style.sh, sort, classify, compare
# MODELS='FMN-Van Gogh-iter_10,SepCE-styles' sh shell_scripts/sepce/evaluate.sh      other models: a comma list
# PER_CLASS=2 sh shell_scripts/sepce/evaluate.sh --batch_size 8      two cases a prompt; arguments go to generate-images.py
#
# Published: all cases of data/evaluate.csv, five pictures each, in folders default and eval. Here a model's folder has its name,
# and class folders are links in sorted/, made anew each time. What needs weights that are not there is left out, and said.
set -eu
. "$(dirname "$0")/common.sh"
MODELS=${MODELS:-SepCE-styles}
EVALUATION=${EVALUATION:-evaluation_folder}
CLASSIFIER=${CLASSIFIER:-models/artis_model_10.pth}
ALEXNET=${ALEXNET:-models/torchvision/alexnet-owt-7be5be79.pth}
if [ "$FAMILY" = sd ]; then
    PROMPTS=${PROMPTS:-data/evaluate.csv}
    CLASSES=${CLASSES:-data/artist_classes.csv}
    NUM_SAMPLES=${NUM_SAMPLES:-5}
    PER_CLASS=${PER_CLASS:-50}
else
    PROMPTS=${PROMPTS:-data/evaluate_toy.csv}
    CLASSES=${CLASSES:-data/artist_classes_toy.csv}
    NUM_SAMPLES=${NUM_SAMPLES:-1}
    PER_CLASS=${PER_CLASS:-5}
fi
CLASSES=$(find_path "$CLASSES")
SORTED=$EVALUATION/sorted

# the first PER_CLASS rows of every prompt (second column)
mkdir -p "$EVALUATION"
awk -F, -v most="$PER_CLASS" 'NR == 1 || (NF > 1 && seen[$2]++ < most)' "$(find_path "$PROMPTS")" >"$EVALUATION/prompts.csv"

# draw MODEL FOLDER ARGUMENTS...
draw() {
    model=$1
    folder=$2
    shift 2
    with_base eval-scripts/generate-images.py --model_name "$model" --exp_name "$folder" --save_path "$EVALUATION" \
        --prompts_path "$EVALUATION/prompts.csv" --num_samples "$NUM_SAMPLES" "$@"
    rm -rf "$SORTED/${folder:?}"
    run methods/sepce/move_image.py --path "$EVALUATION/$folder" --dst "$SORTED/$folder" --copy \
        --prompts_path "$EVALUATION/prompts.csv" --classes "$CLASSES"
}

classify() {
    run methods/sepce/artist-cls-test.py --path "$SORTED" --folder "$1" --model_path "$CLASSIFIER" --save_path "$EVALUATION"
}

compare() {
    run eval-scripts/lpips_eval.py --original_path "$SORTED/default" --edited_path "$SORTED/$1" \
        --trunk_weights "$ALEXNET" --save_path "$EVALUATION"
}

# measure MODEL ARGUMENTS...
measure() {
    model=$1
    shift
    draw "$model" "$model" "$@"
    if [ -e "$(find_path "$CLASSIFIER")" ]; then classify "$model"; fi
    if [ -e "$(find_path "$ALEXNET")" ]; then compare "$model"; fi
}

draw original default "$@"
if [ -e "$(find_path "$CLASSIFIER")" ]; then
    classify default
else
    echo "evaluate: no classifier $CLASSIFIER (data.sh and classifier.sh make it): nothing is classified" >&2
fi
if [ ! -e "$(find_path "$ALEXNET")" ]; then
    echo "evaluate: no AlexNet weights $ALEXNET: LPIPS is left out" >&2
fi
each measure "$MODELS" "$@"
