#!/bin/sh
# sh shell_scripts/artists/train_artist_cpe_single.sh                      CPE's published run: gates against 100 artists
# ST_IDX=3 END_IDX=3 sh shell_scripts/artists/train_artist_cpe_single.sh   one of them: the last number is included
# sh shell_scripts/artists/train_artist_cpe_single.sh --skip_learned       arguments go to methods/cpe/train_cpe.py
#
# Numbers are those of configs/train_artist/prompt.yaml, from 0; on the embedded model, of prompt_embedded.yaml there.
set -eu
. "$(dirname "$0")/../cpe_common.sh"
CONFIG=${CONFIG:-./configs/train_artist/config.yaml}
GATE_RANK=${GATE_RANK:-16}
GUIDE=${GUIDE:-0.5}
PAL=${PAL:-10000.0}
ST_IDX=${ST_IDX:-0}
END_IDX=${END_IDX:-100}
RESUME_STAGE=${RESUME_STAGE:-} # the stage to go on from
NOISE=${NOISE:-0.001}

folder_of CPE_Artist artist 100
train_gates "$@"
