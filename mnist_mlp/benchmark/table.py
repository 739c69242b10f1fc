"""The figures of a benchmark as text."""

from typing import Any

from mnist_mlp.benchmark.baselines import BASELINES
from mnist_mlp.benchmark.loop import LR, MOMENTUM


def table(report: dict[str, Any]) -> str:
    """The figures as text."""
    place, images = report["environment"], report["images"]
    lines = [
        f"{'-'.join(map(str, report['net']))}, batch {report['batch_size']}, SGD lr {LR} momentum {MOMENTUM}, "
        f"{images['train']:,} images; {place['device']}, {place['threads']} threads, torch {place['torch']}; "
        f"{report['rounds']} rounds of {report['epochs']} epochs",
        "",
        f"{'':<13} {'s to train':>10} {'to bare':>8} {'lowest-highest':>15} {'s with':>11} {'to':>5}",
        f"{'':<13} {'an epoch':>10} {'':>8} {'of a round':>15} {'validation':>11} {'bare':>5}",
    ]
    bare = report["baselines"]["bare"]
    for name, row in report["baselines"].items():
        whole = row["whole_seconds"]
        rest = f"{whole:11.3f} {whole / bare['whole_seconds']:5.2f}" if whole is not None else f"{'-':>11} {'-':>5}"
        span = f"{min(row['ratios']):.2f}-{max(row['ratios']):.2f}"
        lines.append(f"{name:<13} {row['train_seconds']:10.3f} {row['ratio']:8.2f} {span:>15} {rest}")
    lines += start_lines(report)
    if "compiled" in report["baselines"]:
        lines.append(f"compiling the step, when it came first: {report['compile_seconds']:.1f} s")
    lines += ["", *(f"{name}: {BASELINES[name][1]}" for name in report["baselines"])]
    return "\n".join(lines)


def start_lines(report: dict[str, Any]) -> list[str]:
    """The part of the table on fresh processes; nothing where there were none."""
    if report["import_torch_seconds"] is None:
        return []
    lines = ["", f"{'':<13} {'imports s':>10} {'data s':>8} {'first step s':>15} {'sum s':>11} {'peak memory':>12}"]
    for name, row in report["baselines"].items():
        if start := row["start"]:
            total = start["imports"] + start["data"] + start["first_step"]
            lines.append(
                f"{name:<13} {start['imports']:10.2f} {start['data']:8.2f} {start['first_step']:15.2f} {total:11.2f} "
                f"{start['peak_bytes'] / 2**20:8.0f} MiB"
            )
    note = "(fresh processes; each imports all of mnist_mlp, and its memory holds that too)"
    return [*lines, note, "", f"import torch alone: {report['import_torch_seconds']:.2f} s"]
