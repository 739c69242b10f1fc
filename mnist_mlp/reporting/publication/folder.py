"""The folder that `report --publish` writes."""

from collections.abc import Sequence
from pathlib import Path

from mnist_mlp.analysis.collect import Job, summarize
from mnist_mlp.analysis.run_table import runs_csv
from mnist_mlp.errors import UserError
from mnist_mlp.plots.sweep import pdf, svg
from mnist_mlp.reporting.publication.checklists import checklist
from mnist_mlp.reporting.publication.figures import figures
from mnist_mlp.reporting.publication.methods import methods
from mnist_mlp.reporting.publication.model_card import model_card
from mnist_mlp.reporting.publication.reproduction import hashes, script
from mnist_mlp.reporting.publication.study import Study
from mnist_mlp.reporting.publication.tables import PREVIEW, as_latex, as_markdown
from mnist_mlp.runs.files import write_bytes, write_text

MARK = "table.tex"
"""A folder with it holds a publication."""


def publish(jobs: Sequence[Job], folder: Path) -> list[Path]:
    """Write tables, figures, texts, commands and hashes of these runs to `folder`; the files.

    An earlier publication there is written over. UserError where the folder holds something else, or no run finished.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--publish {folder} is a file: give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UserError(f"--publish {folder} holds something else than a publication: give a new folder")
    study = Study.of(summarize(jobs))
    texts = {
        MARK: as_latex(study), "preview.tex": PREVIEW, "table.md": as_markdown(study), "methods.md": methods(study),
        "checklist.md": checklist(study), "model_card.md": model_card(study), "reproduce.sh": script(study),
        "runs.csv": runs_csv(study.summary), "hashes.sha256": hashes(study),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    written = [folder / name for name in texts]
    for name, figure in figures(study):
        for suffix, content in ((".pdf", pdf(figure)), (".svg", svg(figure))):
            written.append(folder / f"{name}{suffix}")
            write_bytes(written[-1], content)
    (folder / "reproduce.sh").chmod(0o755)
    return written
