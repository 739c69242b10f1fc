"""What stands at the end of a run or a sweep, where it cannot be written."""

from pathlib import Path

import pytest
from made_up_runs import write_run

from mnist_mlp.sweeps.jobs import write_run_page


def test_a_run_whose_page_cannot_be_written_is_finished_none_the_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(paths: list[Path], target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("mnist_mlp.reporting.page.write_page", full)
    run = write_run(tmp_path / "run")
    write_run_page(run)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no page was written: ")
    assert line.endswith(f"; python -m mnist_mlp.report {run}")
