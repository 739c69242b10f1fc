"""The table of threads, without its minutes of measuring."""

import json
import os
import subprocess
import sys

import pytest

from mnist_mlp.benchmark.threads import NETS, PLACES, Variant, _worker, table


def test_a_variant_is_compared_with_the_best_fixed_number_and_with_itself_alone() -> None:
    one, two, rule = Variant(1, "3000"), Variant(2, None), Variant(0, "3000")
    milliseconds = {one: (4.0, 6.0, 4.0), two: (2.0, 50.0, 60.0), rule: (3.0, 6.0, 4.0)}
    found = {
        (net, variant): {place: [value, 9 * value, value] for place, value in zip(PLACES, values, strict=True)}
        for net in NETS
        for variant, values in milliseconds.items()
    }
    lines = table(found).splitlines()
    assert len(lines) == 2 + 3 * len(NETS)
    spread = "4.00 [4.00, 36.00] | 6.00 [6.00, 54.00] | 4.00 [4.00, 36.00]"
    assert lines[2].endswith(f"| 1, spinning 3000 | {spread} | 2.00 | 1.50 |")
    assert lines[3].startswith("| 256-128-64, 64 | 2, spinning as libgomp does |")
    assert lines[3].endswith("| 1.00 | 25.00 |")
    assert lines[4].endswith("| 1.50 | 2.00 |")


@pytest.mark.integration
def test_a_worker_trains_and_answers_until_it_is_let_go() -> None:
    with _worker(Variant(1, "3000")) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(["256-128-64, 64", 0.01]) + "\n")
        worker.stdin.flush()
        assert float(worker.stdout.readline()) > 0
    assert worker.poll() is not None


def test_its_help_needs_no_torch() -> None:
    code = "import sys; from mnist_mlp.benchmark.threads import parser; parser(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
