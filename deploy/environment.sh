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

prepare_environment() {
    local folder=$1 what=$2 base stamp wanted
    PYTHON=$folder/bin/python
    stamp=$folder/installed
    wanted="$what $(cksum <pyproject.toml)"
    if [ -x "$PYTHON" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    base=$(find_python) || exit 2
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install python3-venv"
    echo "setting up $folder (once; it takes a minute or two) ..." >&2
    "$base" -m venv "$folder" || fail "the virtual environment could not be made in $PWD/$folder"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable "$what" ||
        fail "pip could not install the packages. Check the network connection, then start this again."
    echo "$wanted" >"$stamp"
}
