#!/bin/sh
# sh shell_scripts/sepce/classifier.sh                        train the artist classifier on what data.sh drew, then test it
# EPOCHS=5 sh shell_scripts/sepce/classifier.sh --force       arguments go to methods/sepce/artist-cls-train.py
#
# ResNet-18's ImageNet weights are yours to bring (models/torchvision/); pictures of the embedded model need none.
set -eu
. "$(dirname "$0")/common.sh"
DATA=${DATA:-data}
MODEL_PATH=${MODEL_PATH:-models}
EPOCHS=${EPOCHS:-20}

run methods/sepce/artist-cls-train.py --path "$DATA" --model_path "$MODEL_PATH" --epochs "$EPOCHS" "$@"
run methods/sepce/artist-cls-test.py --path "$DATA" --model_path "$MODEL_PATH/artis_model_10.pth"
