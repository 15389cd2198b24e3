#!/usr/bin/env bash
# Everything that needs a GPU, in one call: the machine's facts and the tests on CUDA.
# Leaves its files in $OUT (by default benchmarks/results/gpu); needs the packages of the extra `test`.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-benchmarks/results/gpu}
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

python3 - "$out/machine.json" <<'EOF'
import json, sys
import timm, torch, torchvision

facts = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
facts["cuda"], facts["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
facts["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu: no CUDA device was found"
open(sys.argv[1], "w").write(json.dumps(facts, indent=1) + "\n")
print(facts)
EOF

python3 -m pytest -q tests/layers tests/losses tests/models tests/pipeline tests/test_tracking.py tests/test_contract.py -p no:cacheprovider \
    --junitxml "$out/tests.xml" 2>&1 | tee "$out/tests.txt"
status=${PIPESTATUS[0]}
exit "$status"
