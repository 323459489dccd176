#!/bin/sh
# sh shell_scripts/explicit/generate_by_explicit_model_explicit.sh                              draw I2P with the gates of train_explicit_cpe_single.sh
# MODEL_PATH= sh shell_scripts/explicit/generate_by_explicit_model_explicit.sh                  with the unmodified base, to compare
# GEN_ST_IDX=0 GEN_END_IDX=9 sh shell_scripts/explicit/generate_by_explicit_model_explicit.sh   ten rows, the last included
#
# Arguments go to methods/cpe/generate_cpe_explicit.py.
set -eu
. "$(dirname "$0")/../cpe_common.sh"
GEN_CONFIG=${GEN_CONFIG:-configs/gen_explicit/config_explicit_erased.yaml}
GEN_ST_IDX=${GEN_ST_IDX:-0}
GEN_END_IDX=${GEN_END_IDX:-100000000}
GATE_RANK=${GATE_RANK:-64}
GUIDE=${GUIDE:-3.0}
PAL=${PAL:-10000.0}
NOISE=${NOISE:-0.001}

folder_of CPE_Explicit explicit 4
draw_images generate_cpe_explicit.py "$@"
