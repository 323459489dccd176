#!/bin/sh
# sh shell_scripts/celebs/generate_by_celeb_model.sh                              draw with the gates of train_celeb_cpe_single.sh
# MODEL_PATH= sh shell_scripts/celebs/generate_by_celeb_model.sh                  with the unmodified base, to compare
# GEN_ST_IDX=0 GEN_END_IDX=9 sh shell_scripts/celebs/generate_by_celeb_model.sh   ten rows, the last included
#
# Arguments go to methods/cpe/generate_cpe.py. GEN_CONFIG is one of:
#   configs/gen_celeb/config_celeb_erased.yaml
#   configs/gen_celeb/config_celeb_remained.yaml
#   configs/gen_celeb/config_artist.yaml
#   configs/gen_celeb/config_character.yaml
#   configs/gen_celeb/config_coco_30k.yaml
set -eu
. "$(dirname "$0")/../cpe_common.sh"
GEN_CONFIG=${GEN_CONFIG:-configs/gen_celeb/config_celeb_erased.yaml}
GEN_ST_IDX=${GEN_ST_IDX:-0}
GEN_END_IDX=${GEN_END_IDX:-100000000}
GATE_RANK=${GATE_RANK:-16}
GUIDE=${GUIDE:-0.3}
PAL=${PAL:-100000.0}
NOISE=${NOISE:-0.001}

folder_of CPE_Celeb celeb 50
draw_images generate_cpe.py "$@"
