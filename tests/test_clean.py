"""The command `clean`: lists first, removes only what runs wrote, and nothing in use or behind symbolic links."""

import shutil
from pathlib import Path

import pytest
from made_up_runs import write_failure, write_run, write_unfinished

from mnist_mlp.clean import main
from mnist_mlp.runs.folder import FolderLock


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """One run of each kind, and what must stay."""
    sweep = tmp_path / "outputs" / "sweep"
    write_run(sweep / "finished")
    write_failure(sweep / "failed", "ValueError: no")
    write_run(sweep / ".set_aside" / "finished-1")
    (sweep / "unreadable").mkdir()
    (sweep / "unreadable" / "result.json").write_text("{")
    write_unfinished(sweep / "unfinished")
    for name in ("finished", "unfinished", "unreadable"):
        (sweep / name / "checkpoints").mkdir()
        for file in ("best.ckpt", "last.ckpt", "last.ckpt.previous"):
            (sweep / name / "checkpoints" / file).write_bytes(b"x" * 1_000_000)
    (sweep / "unfinished" / ".result.json.0123456789abcdef.tmp").write_text("of a killed process")
    (sweep / "report.html").write_text("page")
    return tmp_path / "outputs"


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_without_delete_everything_is_listed_with_its_size_and_stays(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(outputs)
    main([str(outputs)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {(row[0], Path(row[3]).name) for row in rows[:-1]} == {
        ("archived", "finished-1"), ("failed", "failed"), ("unfinished", "unfinished"), ("checkpoints", "finished"),
    }  # fmt: skip
    assert {row[0]: row[1] for row in rows}.items() >= {"unfinished": "3.0", "checkpoints": "1.0"}.items()
    assert files_in(outputs) == before


def test_delete_removes_these_and_nothing_else(outputs: Path) -> None:
    before = files_in(outputs)
    main([str(outputs), "--delete"])
    removed = {"sweep/failed", "sweep/unfinished", "sweep/.set_aside"}
    expected = {name for name in before if not any(name.startswith(f"{folder}/") for folder in removed)}
    assert files_in(outputs) == expected - {"sweep/finished/checkpoints/last.ckpt.previous"}
    assert not any((outputs / folder).exists() for folder in removed)


def test_only_limits_the_kinds(outputs: Path) -> None:
    before = files_in(outputs)
    main([str(outputs), "--delete", "--only", "failed"])
    assert before - files_in(outputs) == {"sweep/failed/failure.json"}


def test_files_of_others_stay_in_their_folder(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = outputs / "sweep" / "failed" / "thoughts.md"
    own.write_text("mine")
    main([str(outputs), "--delete"])
    assert [path.name for path in own.parent.iterdir()] == ["thoughts.md"]
    assert "thoughts.md" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["sweep/unfinished", "sweep"])
def test_a_run_in_use_and_the_runs_of_a_sweep_in_use_stay(folder: str, outputs: Path) -> None:
    with FolderLock(outputs / folder).acquire(), pytest.raises(SystemExit, match="kept"):
        main([str(outputs), "--delete"])
    assert (outputs / "sweep" / "unfinished" / "run.json").is_file()
    assert (outputs / "sweep" / "failed").exists() == (folder == "sweep")


@pytest.mark.parametrize("link", ["checkpoints", "checkpoints/best.ckpt", "metrics.csv"])
def test_nothing_is_removed_through_a_symbolic_link(link: str, outputs: Path, tmp_path: Path) -> None:
    inside = outputs / "sweep" / "unfinished" / link
    shutil.move(inside, tmp_path / "elsewhere")
    inside.symlink_to(tmp_path / "elsewhere")
    shutil.copytree(outputs / "sweep", tmp_path / "other" / "sweep", symlinks=True)
    (outputs / "linked").symlink_to(tmp_path / "other")
    before, elsewhere = files_in(tmp_path / "other"), (tmp_path / "elsewhere").stat().st_mtime_ns
    with pytest.raises(SystemExit):
        main([str(outputs), "--delete"])
    assert inside.is_symlink()
    assert (tmp_path / "elsewhere").stat().st_mtime_ns == elsewhere
    assert files_in(tmp_path / "other") == before


def test_a_folder_without_runs_has_nothing_to_remove_and_a_missing_one_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tmp_path)])
    assert capsys.readouterr().out == "nothing to remove\n"
    with pytest.raises(SystemExit, match="not a folder"):
        main([str(tmp_path / "nowhere")])
