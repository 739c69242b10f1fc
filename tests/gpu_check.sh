#!/usr/bin/env bash
# tests/gpu_check.sh [WHEELS]: every check that needs a GPU, in about six minutes, without network.
#
# Needs Python with torch, pytorch-lightning, torchmetrics and tensorboard; WHEELS is a folder with wheels of the other
# dependencies. MNIST_MLP_DATA: the full MNIST; without it runs use the sample. ACCELERATOR=cpu tries the script itself.
# Prints JSON: exit code and seconds of each step, accuracies and epoch times of each run, and the benchmark's result.
# Logs and the JSON are left in $OUT (default: a temporary folder, which is printed).
set -u
cd "$(dirname "$0")/.." || exit 1
source=$PWD out=$(realpath "${OUT:-$(mktemp -d)}") accelerator=${ACCELERATOR:-gpu} python=${PYTHON:-python3}
work=$(mktemp -d)
export PYTHONPATH=$source:$source/tests:$work/site MNIST_MLP_DATA=${MNIST_MLP_DATA:-$source/data} PYTHONUNBUFFERED=1
if [ $# = 1 ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "$1"/*.whl || exit 1
fi

step() { # NAME SECONDS COMMAND...: run a command with a time limit, log it, and record its exit code and duration
    local name=$1 limit=$2 start=$SECONDS code
    shift 2
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    echo "$name $code $((SECONDS - start))" | tee -a "$work/steps"
}
train() { # NAME SECONDS OVERRIDES...
    local name=$1 limit=$2
    shift 2
    step "$name" "$limit" "$python" -m mnist_mlp.train "$@" name="$name" trainer.figures=false
}

[ "$accelerator" = gpu ] && step tests 120 "$python" -m pytest -q -n 0 -m gpu -p no:cacheprovider tests
cd "$work" || exit 1
train default 60 "trainer.accelerator=$accelerator"
train cpu 60 trainer.accelerator=cpu trainer.threads=0
train compiled 120 "trainer.accelerator=$accelerator" trainer.compile=true
train better 120 experiment=better "trainer.accelerator=$accelerator" trainer.max_epochs=10
train sweep 120 -m 'seed=range(8)' "trainer.accelerator=$accelerator" hydra.launcher.n_per_gpu=4
step benchmark 120 "$python" -m mnist_mlp.benchmark --device "$accelerator" --only bare,ours,compiled,floor \
    --rounds 2 --epochs 2 --output "$work/benchmark.json"

"$python" - "$work" "$out/gpu_check.json" <<'END'
import json, sys
from pathlib import Path

work, target = map(Path, sys.argv[1:])
rows = [line.split() for line in (work / "steps").read_text().splitlines()]
report = {"steps": {name: {"code": int(code), "seconds": int(seconds)} for name, code, seconds in rows}, "runs": {}}
for file in sorted(work.glob("outputs/*/**/result.json")):
    result = json.loads(file.read_text())
    report["runs"][str(file.parent.relative_to(work / "outputs"))] = {
        "test_accuracy": result["metrics"]["test/accuracy"], "timing": result["timing"],
        "device": result["environment"]["device"], "source": result["data"]["source"],
    }
if (work / "benchmark.json").is_file():
    report["benchmark"] = json.loads((work / "benchmark.json").read_text())
target.write_text(json.dumps(report, indent=1))
print(target.read_text())
END
echo "logs: $out" >&2
! grep -qv ' 0 [0-9]*$' "$work/steps"
