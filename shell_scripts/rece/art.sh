#!/bin/sh
# sh shell_scripts/rece/art.sh                             RECE's published run against an artist, all others preserved
# CONCEPTS='Van Gogh' sh shell_scripts/rece/art.sh         another artist
# sh shell_scripts/rece/art.sh --target_ckpt UCE/erased-kelly.pt      arguments go to methods/rece/train_artists.py
set -eu
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
CONCEPTS=${CONCEPTS:-Kelly McKernan}
GUIDE=${GUIDE:-art}
EMB_COMPUTING=${EMB_COMPUTING:-close_regzero}
REGULAR_SCALE=${REGULAR_SCALE:-1e-3}
EPOCHS=${EPOCHS:-1}

sh "$ROOT/shell_scripts/setup.sh"
exec "$ROOT/.venv/bin/python" "$ROOT/methods/rece/train_artists.py" --concepts "$CONCEPTS" --guided_concepts "$GUIDE" \
    --concept_type art --emb_computing "$EMB_COMPUTING" --regular_scale "$REGULAR_SCALE" --epochs "$EPOCHS" "$@"
