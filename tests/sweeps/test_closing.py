"""The page of a run, if it cannot be written."""

from pathlib import Path

import pytest
from made_up_runs import write_run

from mnist_mlp.sweeps.jobs import write_run_page


def test_an_error_while_the_page_is_written_is_reported_and_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(paths: list[Path], target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("mnist_mlp.reporting.page.write_page", fail)
    run = write_run(tmp_path / "run")
    write_run_page(run)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write the page: ")
    assert line.endswith(f"python -m mnist_mlp.report {run}")
