#!/usr/bin/env bash
# Everything that needs a GPU, in one call of under nine minutes: the machine's facts, the tests on CUDA, and every
# benchmark that fits into what is left of the time. Without a GPU it goes the same way on the CPU, with --quick.
# Leaves its files in $OUT (by default benchmarks/results/gpu); needs the packages of the extra `test`.
# $MINUTES (by default 8.5) is the time for all, $TEST_MINUTES (5) the most that the tests may take of it.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-benchmarks/results/gpu}
minutes=${MINUTES:-8.5}
test_minutes=${TEST_MINUTES:-5}
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-python3}
SECONDS=0

"$python" - "$out/machine.json" <<'PY'
import json, sys
import timm, torch, torchvision

facts = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
facts["cuda"], facts["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
facts["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu: no CUDA device was found"
open(sys.argv[1], "w").write(json.dumps(facts, indent=1) + "\n")
print(facts)
PY

# TESTS: other tests than these, for a trial of the script itself
read -ra tests <<< "${TESTS:-tests/kernels tests/test_optimize.py tests/layers tests/losses tests/models tests/pipeline tests/benchmarks tests/test_tracking.py tests/test_contract.py}"
timeout --kill-after=10 "${test_minutes}m" "$python" -m pytest -q "${tests[@]}" -p no:cacheprovider \
    --junitxml "$out/tests.xml" 2>&1 | tee "$out/tests.txt"
status=${PIPESTATUS[0]}
if [ "$status" = 124 ]; then
    echo "the tests did not end within $test_minutes minutes" | tee -a "$out/tests.txt"
fi

# a case that has begun goes on, and the tables take some seconds: 40 are kept back
left=$("$python" -c "print(max(0.0, $minutes - ($SECONDS + 40) / 60))")
quick=()
"$python" -c "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)" || quick=(--quick)
# shellcheck disable=SC2086  # BENCH_ARGS is a list of words
timeout --kill-after=10 "$("$python" -c "print(round(60 * $left + 30))")" "$python" benchmarks/run.py --suite all \
    ${quick[@]+"${quick[@]}"} --minutes "$left" ${BENCH_ARGS:-} --out "$out/benchmarks.json" 2>"$out/benchmarks.err" \
    | tee "$out/benchmarks.txt"
benchmarked=${PIPESTATUS[0]}
if [ -f "$out/benchmarks.json" ]; then
    "$python" benchmarks/plot.py "$out/benchmarks.json" --markdown "$out/benchmarks.md" --png "$out/benchmarks.png"
    # the exit code only says that some goal is not reached
    "$python" benchmarks/goals.py "$out/benchmarks.json" >"$out/goals.md" || true
fi
echo "tests ended with $status, benchmarks with $benchmarked, after $SECONDS s"
[ "$status" = 0 ] && exit "$benchmarked"
exit "$status"
