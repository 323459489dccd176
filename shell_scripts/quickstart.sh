#!/bin/sh
# sh shell_scripts/quickstart.sh                          set up if needed, erase "Van Gogh" with every method, report
# sh shell_scripts/quickstart.sh --concept "golf ball"    arguments go to python -m toyworld.quickstart (--help lists them)
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)

sh "$ROOT/shell_scripts/setup.sh"
# waiting threads sleep instead of spinning: as fast alone, and much faster beside other programs
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
# the caller's directory stays the working one, so that paths among the arguments mean what the caller meant
exec "$ROOT/.venv/bin/python" -m toyworld.quickstart "$@"
