#!/bin/sh
# sh shell_scripts/rece/nudity.sh                    RECE's published run against nudity: UCE, then three epochs
# sh shell_scripts/rece/nudity.sh --no_validate      arguments go to methods/rece/train.py (--help lists them)
set -eu
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
CONCEPTS=${CONCEPTS:-nudity}
EMB_COMPUTING=${EMB_COMPUTING:-close_regzero}
REGULAR_SCALE=${REGULAR_SCALE:-0.1}
EPOCHS=${EPOCHS:-3}
PRESERVE_SCALE=${PRESERVE_SCALE:-0.1}
LAMB=${LAMB:-0.1}

sh "$ROOT/shell_scripts/setup.sh"
exec "$ROOT/.venv/bin/python" "$ROOT/methods/rece/train.py" --concepts "$CONCEPTS" --concept_type nudity \
    --emb_computing "$EMB_COMPUTING" --regular_scale "$REGULAR_SCALE" --epochs "$EPOCHS" \
    --preserve_scale "$PRESERVE_SCALE" --lamb "$LAMB" "$@"
