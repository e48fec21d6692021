#!/usr/bin/env bash
# All checks: style, types, tests. Everything after the name goes to pytest: bash tests/run.sh -k modbus
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source deploy/environment.sh
prepare_environment .venv-dev '.[dev]'
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
# Much of the time tests wait for something. In the order of the names: by their number, files of few slow tests would
# come last, and one core would wait for the other.
exec "$PYTHON" -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder "$@"
