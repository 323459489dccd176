#!/bin/sh
# sh shell_scripts/explicit/train_explicit_cpe_single.sh                      CPE's published run: gates against 4 explicit words
# ST_IDX=0 END_IDX=0 sh shell_scripts/explicit/train_explicit_cpe_single.sh   nudity alone: the last number is included
# sh shell_scripts/explicit/train_explicit_cpe_single.sh --skip_learned       arguments go to methods/cpe/train_cpe.py
#
# Numbers are those of configs/train_explicit/prompt.yaml, from 0; on the embedded model, of prompt_embedded.yaml there.
set -eu
. "$(dirname "$0")/../cpe_common.sh"
CONFIG=${CONFIG:-./configs/train_explicit/config.yaml}
GATE_RANK=${GATE_RANK:-64}
GUIDE=${GUIDE:-3.0}
PAL=${PAL:-10000.0}
ST_IDX=${ST_IDX:-0}
END_IDX=${END_IDX:-4}
RESUME_STAGE=${RESUME_STAGE:-0}
NOISE=${NOISE:-0.001}

folder_of CPE_Explicit explicit 4
train_gates "$@"
