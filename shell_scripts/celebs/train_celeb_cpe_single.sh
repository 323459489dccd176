#!/bin/sh
# sh shell_scripts/celebs/train_celeb_cpe_single.sh                      CPE's published run: gates against 50 celebrities
# ST_IDX=3 END_IDX=3 sh shell_scripts/celebs/train_celeb_cpe_single.sh   one of them: the last number is included
# sh shell_scripts/celebs/train_celeb_cpe_single.sh --skip_learned       arguments go to methods/cpe/train_cpe.py
#
# Numbers are those of configs/train_celeb/prompt.yaml, from 0; on the embedded model, of prompt_embedded.yaml there.
set -eu
. "$(dirname "$0")/../cpe_common.sh"
CONFIG=${CONFIG:-./configs/train_celeb/config.yaml}
GATE_RANK=${GATE_RANK:-16}
GUIDE=${GUIDE:-0.3}
PAL=${PAL:-100000.0}
ST_IDX=${ST_IDX:-0}
END_IDX=${END_IDX:-50}
RESUME_STAGE=${RESUME_STAGE:-} # the stage to go on from
NOISE=${NOISE:-0.001}

folder_of CPE_Celeb celeb 50
train_gates "$@"
