#!/bin/sh
# sh shell_scripts/setup.sh        make .venv (if missing) and install requirements.txt into it (if it changed)
# PYTHON=python3.11 sh shell_scripts/setup.sh     choose the interpreter that .venv is made with (3.10 to 3.12)
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
VENV=$ROOT/.venv
STAMP=$VENV/requirements.stamp
LOCK=$ROOT/.venv-setup.lock.tmp

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 2; }

# what the stamp must hold: the installed requirements, the packaging metadata, the interpreter and the place
wanted() {
    cat "$ROOT/requirements.txt" "$ROOT/pyproject.toml" | cksum
    "$VENV/bin/python" -V 2>&1
    echo "$ROOT"
}
ready() { [ -x "$VENV/bin/python" ] && [ -f "$STAMP" ] && [ "$(wanted)" = "$(cat "$STAMP")" ]; }

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.10 python3 python; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
            >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
}

# One set-up at a time. The lock names its owner, so that the lock of a killed run is recognised and taken over.
take_lock() {
    told=
    until (set -C; echo $$ >"$LOCK") 2>/dev/null; do
        owner=$(cat "$LOCK" 2>/dev/null || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            say "removing the lock of a set-up that was interrupted"
            rm -f "$LOCK"
            continue
        fi
        [ -n "$told" ] || say "waiting for another set-up (process ${owner:-unknown}; lock $LOCK)"
        told=1
        sleep 1
    done
    trap 'rm -f "$LOCK"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

if ready; then
    say ".venv is up to date"
    exit 0
fi

take_lock
if ready; then # the run we waited for did the work
    say ".venv is up to date"
    exit 0
fi

# A .venv whose pip does not start is what a kill during its creation leaves behind: make it again.
if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    [ -n "$python" ] || fail "no Python 3.10 to 3.12 (with venv) found; name one: PYTHON=/path/to/python sh $0"
    say "making $VENV with $($python -V 2>&1)"
    "$python" -m venv --clear "$VENV"
fi

say "installing requirements.txt (about 4 GB to download the first time)"
rm -f "$STAMP"
cd "$ROOT" # requirements.txt ends with '-e .'
rm -f "$VENV/pip.failed" # a pipe hides pip's exit status
{ "$VENV/bin/python" -m pip install --disable-pip-version-check -r requirements.txt || touch "$VENV/pip.failed"; } |
    { grep -v '^Requirement already satisfied' || true; }
[ ! -e "$VENV/pip.failed" ] || fail "installation failed (see above)"
"$VENV/bin/python" -c 'import torch, torchvision, transformers, safetensors, nudenet, lightning, lpips, pytest' ||
    fail "what was installed does not import (see above)"
# the stamp comes last and in one step: a killed installation is taken up again the next time
wanted >"$STAMP.tmp"
mv "$STAMP.tmp" "$STAMP"
say "done"
