#!/usr/bin/env bash
# The main job on this machine alone: simulated conveyor, shipped engine, simulated PLC. Ends by itself.
# Everything after the name is handed on: bash deploy/demo.sh --parts 40
set -euo pipefail
called_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source deploy/environment.sh
prepare_environment .venv .
project=$PWD
cd "$called_from"
exec "$project/.venv/bin/edge-inspect" demo "$@"
