# shellcheck shell=bash
# Sourced by deploy/demo.sh and tests/run.sh: a virtual environment of the project's own, made once.
#
#   prepare_environment FOLDER WHAT     # WHAT is what pip installs: "." or ".[dev]"
#
# Leaves the environment's python in $PYTHON. Says what is missing where the machine lacks it.

fail() {
    echo "$*" >&2
    exit 2
}

find_python() {
    local candidate
    for candidate in python3.12 python3.11 python3.13 python3; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is missing. On Debian or Ubuntu: sudo apt-get install python3 python3-venv"
}

make_environment() {
    local folder=$1 base
    base=$(find_python) || exit 2
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install python3-venv"
    "$base" -m venv --clear "$folder" || fail "the virtual environment could not be made in $PWD/$folder"
}

prepare_environment() {
    local folder=$1 what=$2 stamp wanted log
    PYTHON=$folder/bin/python
    stamp=$folder/installed
    log=$folder/pip.log
    wanted="$what $PWD $(cksum <pyproject.toml)" # a moved checkout is installed anew
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$PYTHON" -c '' 2>/dev/null; then
        return
    fi
    echo "setting up $folder (once; it takes a minute or two) ..." >&2
    # One that works is kept, with what the user has added to it.
    "$PYTHON" -m pip --version >/dev/null 2>&1 || make_environment "$folder"
    "$PYTHON" -m pip install --disable-pip-version-check --no-input --editable "$what" >"$log" 2>&1 </dev/null || {
        sed -n 's/^ *ERROR/pip: ERROR/p' "$log" | tail -n 1 >&2
        fail "pip could not install the packages (all it said: $PWD/$log). Check the network, then start this again."
    }
    echo "$wanted" >"$stamp"
}
