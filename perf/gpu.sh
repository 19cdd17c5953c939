#!/bin/bash
# On a rented GPU: the tests marked gpu, `perf --only device` and the rows of `perf --reference`, in at most 8 minutes,
# into one JSON file.
#
#   perf/gpu.sh [CHECKOUT of the Deep VG Benchmark]     # without one, ours alone
#
# PYTHON is the interpreter (default: the clone's .venv, else python3); OUT the folder of gpu.json (default: logs/gpu).
# What is installed stays as it is; only what is missing is installed, which the 8 minutes do not count.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || command -v python3)}
"$PYTHON" -c 'import cv2, faiss, h5py, matplotlib, pytest, pytest_timeout, scipy, sklearn, tabulate, timm, torch, torchvision, tqdm' ||
    "$PYTHON" -m pip install --quiet -r requirements/requirements.in pytest pytest-timeout hypothesis
exec "$PYTHON" -m perf.gpu --out "${OUT:-logs/gpu}" ${1:+--reference "$1"}
