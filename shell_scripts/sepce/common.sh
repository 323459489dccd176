#!/bin/sh
# . shell_scripts/sepce/common.sh       what the scripts here share; alone it only sets up
# BASE=toy, BASE=path/to/a/checkpoint   in front of any of them: another base model (CONFIG=… its configuration)
BASE_CONFIG=${BASE_CONFIG:-${CONFIG:-}}
. "$(dirname "$0")/../common.sh"
