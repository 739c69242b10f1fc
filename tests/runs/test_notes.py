"""Notes on runs and sweeps: kept outside the fingerprint, replaceable, shown on the page."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from made_up_runs import write_run
from sweeps_in_process import TINY, sweeper

import mnist_mlp
from mnist_mlp.reporting.page import write_page
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.train import main

Train = Callable[..., str]


@pytest.fixture
def train(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """A function that runs `train` with these words in tmp_path and returns its error message, or an empty text."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train", f"data.root={idx_root}", *TINY, *words])
        GlobalHydra.instance().clear()
        try:
            main()
        except SystemExit as ended:
            return str(ended.code)
        return ""

    return call


@pytest.mark.integration
def test_a_note_of_a_run_is_kept_replaced_and_outside_the_fingerprint(train: Train, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "outputs/train/mine")
    words = "First try: 5 % of the data, 'quotes' = [a, b]; ünïcode"
    assert train("name=mine", "--note", words) == ""
    first = folder.result()
    assert folder.note() == words
    assert train("name=mine") == ""
    assert folder.note() == words
    assert train("--note=a=b", "name=mine") == ""
    assert folder.note() == "a=b"
    assert "a=b" in folder.page_file.read_text()
    assert folder.result() == first
    assert first is not None
    assert not any("note" in text for text in [*first.overrides, *first.config])
    assert train("name=mine", "resume=never") == ""
    assert folder.note() == "a=b"
    assert mnist_mlp.load_run(folder.path).result.fingerprint == first.fingerprint


@pytest.mark.parametrize("words", [("--note",), ("--note", "\udcff")])
def test_a_missing_or_undecodable_note_is_one_line(words: tuple[str, ...], train: Train, tmp_path: Path) -> None:
    assert train("name=mine", *words).startswith("error: ")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.integration
def test_a_sweep_has_one_note_for_all_its_jobs(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweeper(idx_root, tmp_path, monkeypatch)
    assert sweep("seed=0,1", "trainer.max_epochs=1", "name=noted", "--note", "Of a sweep") == 0
    folder = tmp_path / "outputs/sweeps/noted"
    jobs = [path.parent for path in folder.glob("*/result.json")]
    assert [RunFolder(job).note() for job in jobs] == ["Of a sweep"] * 2
    assert [path.parent for path in tmp_path.rglob("note.txt")] == [folder]


def test_python_takes_notes_too(idx_root: Path, tmp_path: Path) -> None:
    small = {"data.root": idx_root, "data.val_size": 60, "trainer.max_epochs": 1, "trainer.figures": False}
    run = mnist_mlp.fit(small, tmp_path / "run", note="from Python")
    assert RunFolder(run.path).note() == "from Python"
    assert RunFolder(mnist_mlp.fit(small, tmp_path / "run").path).note() == "from Python"
    with pytest.raises(mnist_mlp.UserError, match="note=5"):
        mnist_mlp.sweep({**small, "seed": [0]}, tmp_path / "sweep", note=5)  # type: ignore[arg-type]
    assert not (tmp_path / "sweep").exists()


def test_the_page_shows_notes_as_text(tmp_path: Path) -> None:
    for name, note in (("a", "<b>bold</b>"), ("b", "plain & simple")):
        run = write_run(tmp_path / name, data__root=str(tmp_path), optim__lr=0.1 + len(note))
        (run / "note.txt").write_text(note)
    write_page([tmp_path / "a", tmp_path / "b"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;bold&lt;/b&gt;; plain &amp; simple" in page
    assert "<b>bold</b>" not in page
    (tmp_path / "note.txt").write_text("of a folder that is no sweep")
    (tmp_path / "a" / "note.txt").write_bytes(b"\xff")
    assert RunFolder(tmp_path / "a").note() == ""
