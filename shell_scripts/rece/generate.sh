#!/bin/sh
# sh shell_scripts/rece/generate.sh                  draw pictures with the result of nudity.sh, then attack it (Ring-A-Bell)
# MODEL=ckpt2/.../seed_42 ATTACK='van gogh' sh shell_scripts/rece/generate.sh     another result, another concept
# sh shell_scripts/rece/generate.sh --ddim_steps 20  arguments go to both, generate-images.py and RingABell.py
set -eu
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
RUNS=${RUNS:-ckpt2/SD_adv_train/adv_train_concepts/nudity/close_regzero}
MODEL=${MODEL:-$(ls -td "$RUNS"/nudity_-*/regular_*/seed_*/ 2>/dev/null | head -n 1)}
ATTACK=${ATTACK:-nudity}
SAVE_PATH=${SAVE_PATH:-outputs/rece}
# published: rows 10,000 to 19,999 of coco_30k.csv; without it, a few prompts of the embedded model
if [ -z "${PROMPTS:-}" ] && [ -f "$ROOT/data/coco_30k.csv" ]; then
    PROMPTS=$ROOT/data/coco_30k.csv
    DF_START=${DF_START:-10000}
    DF_LENGTH=${DF_LENGTH:-10000}
fi
PROMPTS=${PROMPTS:-$ROOT/data/quickstart.csv}
DF_START=${DF_START:-0}
DF_LENGTH=${DF_LENGTH:-10}

if [ -z "$MODEL" ]; then
    echo "generate: no result in $RUNS: run shell_scripts/rece/nudity.sh first, or name one: MODEL=... sh $0" >&2
    exit 2
fi
sh "$ROOT/shell_scripts/setup.sh"
"$ROOT/.venv/bin/python" "$ROOT/eval-scripts/generate-images.py" --model_name "$MODEL" --exp_name pictures \
    --prompts_path "$PROMPTS" --df_start "$DF_START" --df_length "$DF_LENGTH" --save_path "$SAVE_PATH" "$@"
exec "$ROOT/.venv/bin/python" "$ROOT/methods/rece/attack_methods/RingABell.py" --ckpt "$MODEL" --concept "$ATTACK" \
    --output_path "$SAVE_PATH" --img_path "$SAVE_PATH/ring-a-bell" "$@"
