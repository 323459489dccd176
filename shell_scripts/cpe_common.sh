#!/bin/sh
# . shell_scripts/cpe_common.sh         what CPE's scripts in celebs, artists and explicit share
#
# Folders are called after GUIDE, PAL, GATE_RANK and NOISE as they are written; train_cpe.py writes numbers like Python: 10000.0,
# not 1e4. On the embedded model the group is celeb_embedded, artist_embedded or explicit_embedded.
. "$(dirname "$0")/../common.sh"

# folder_of ROOT DOMAIN COUNT           sets GATES, where training leaves its files, and SAVE_ENV, their images' folder
folder_of() {
    group=$2_embedded
    if [ "$FAMILY" = sd ]; then group=$2_$3; fi
    SAVE_ENV=${SAVE_ENV:-guide${GUIDE}_pal${PAL}_gate_rank${GATE_RANK}_noise${NOISE}}
    GATES=output/$1/$group/$2_single_guide${GUIDE}_pal${PAL}_gate_rank${GATE_RANK}_noise${NOISE}
}

# train_gates ARGUMENTS...
train_gates() {
    with_base methods/cpe/train_cpe.py --config_file "$CONFIG" --st_prompt_idx "$ST_IDX" --end_prompt_idx "$END_IDX" \
        --gate_rank "$GATE_RANK" --guidance_scale "$GUIDE" --pal "$PAL" --noise "$NOISE" \
        ${RESUME_STAGE:+--resume_stage "$RESUME_STAGE"} "$@"
    if [ -d "$GATES" ]; then
        echo "train: $GATES: $(find "$GATES" -name '*last.safetensors' ! -name '*adv_prompts*' | wc -l) gate files"
    fi
}

# draw_images SCRIPT ARGUMENTS...       with the gates of MODEL_PATH, or with the unmodified base if that is empty
draw_images() {
    script=$1
    shift
    MODEL_PATH=${MODEL_PATH-$GATES}
    if [ -n "$MODEL_PATH" ]; then
        if [ ! -e "$(find_path "$MODEL_PATH")" ]; then
            echo "generate: no gates in $MODEL_PATH: train some, name others (MODEL_PATH=...) or none (MODEL_PATH=)" >&2
            exit 2
        fi
        set -- --model_path "$MODEL_PATH" --gate_rank "$GATE_RANK" --save_env "$SAVE_ENV" "$@"
    fi
    with_base "methods/cpe/$script" --config "$GEN_CONFIG" --st_prompt_idx "$GEN_ST_IDX" --end_prompt_idx "$GEN_END_IDX" "$@"
}
