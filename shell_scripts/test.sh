#!/bin/sh
# sh shell_scripts/test.sh                      set up if needed, lint, run every test (20 to 25 minutes on two cores)
# sh shell_scripts/test.sh tests/unit -x        arguments go to pytest
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
WORKERS=${WORKERS:-2}

sh "$ROOT/shell_scripts/setup.sh"
cd "$ROOT"
echo "test: ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "test: pytest with $WORKERS workers"
# one thread a worker: two workers with a thread pool each fight over the cores
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# the tests of a file share what is slow to make, so they stay on one worker; tests/conftest.py says which come first
exec .venv/bin/python -m pytest -n "$WORKERS" --dist loadfile --no-loadscope-reorder "$@"
