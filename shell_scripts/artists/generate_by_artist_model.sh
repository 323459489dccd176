#!/bin/sh
# sh shell_scripts/artists/generate_by_artist_model.sh                              draw with the gates of train_artist_cpe_single.sh
# MODEL_PATH= sh shell_scripts/artists/generate_by_artist_model.sh                  with the unmodified base, to compare
# GEN_ST_IDX=0 GEN_END_IDX=9 sh shell_scripts/artists/generate_by_artist_model.sh   ten rows, the last included
#
# Arguments go to methods/cpe/generate_cpe.py. GEN_CONFIG is one of:
#   configs/gen_artist/config_artist_erased.yaml
#   configs/gen_artist/config_artist_remained.yaml
#   configs/gen_artist/config_actor.yaml
#   configs/gen_artist/config_character.yaml
#   configs/gen_artist/config_coco_30k.yaml
set -eu
. "$(dirname "$0")/../cpe_common.sh"
GEN_CONFIG=${GEN_CONFIG:-configs/gen_artist/config_artist_erased.yaml}
GEN_ST_IDX=${GEN_ST_IDX:-0}
GEN_END_IDX=${GEN_END_IDX:-100000000}
GATE_RANK=${GATE_RANK:-16}
GUIDE=${GUIDE:-0.5}
PAL=${PAL:-10000.0}
NOISE=${NOISE:-0.001}

folder_of CPE_Artist artist 100
draw_images generate_cpe.py "$@"
