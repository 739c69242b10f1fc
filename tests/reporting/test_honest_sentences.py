"""Sentences around right numbers: runs that are missing, data that are not MNIST, figures flattered by selection."""

import json
from pathlib import Path

import pytest
from made_up_runs import write_failure, write_run

from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.tables import as_markdown, plan_lines
from mnist_mlp.datasets import OFFICIAL_DIGEST
from mnist_mlp.reporting.data import data_warning
from mnist_mlp.reporting.page import render_page
from mnist_mlp.reporting.publish import Study, as_latex, figures, hashes, methods
from mnist_mlp.reporting.publish import as_markdown as publish_markdown
from mnist_mlp.reporting.sections_study import pair_section


def set_digest(folder: Path, digest: str) -> None:
    """Record this digest of the data in every run below the folder."""
    for file in folder.rglob("result.json"):
        result = json.loads(file.read_text())
        result["data"]["digest"] = digest
        file.write_text(json.dumps(result))


def test_failed_seeds_of_the_best_setting_are_mentioned_wherever_it_is_called_best(tmp_path: Path) -> None:
    for seed in range(5):
        write_run(tmp_path / f"a{seed}", range(8 + seed), seed=seed, optim__lr=0.1)
        if seed < 3:
            write_run(tmp_path / f"b{seed}", range(2 + seed), seed=seed, optim__lr=0.2)
        else:
            write_failure(tmp_path / f"b{seed}", "ValueError: no", optim__lr=0.2, seed=seed)
    summary = summarize(find_jobs([tmp_path]))
    assert summary.rows[0].settings["optim.lr"] == 0.2
    for text in (render_page(summary.jobs, "title"), as_markdown(summary), methods(Study(summary))):
        assert "2 of 5 runs failed" in text
    assert "3 of 5" in as_markdown(summary).splitlines()[2]
    assert "0.2} & \\textbf{3 of 5}" in as_latex(Study(summary))


def test_the_figure_of_one_seed_stands_with_the_mean_of_its_setting(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / str(seed), range(2 + 2 * seed), seed=seed)
    summary = summarize(find_jobs([tmp_path]))
    page = render_page(summary.jobs, "title")
    note = "Best run: seed 0, the best of 3 on validation; test accuracy 98.00 %, its setting 96.00 %."
    assert note in page
    title = dict(figures(Study(summary)))["confusion_matrix"].axes[0].get_title()
    assert f"{title}." == note


def test_a_single_comparison_is_not_called_corrected(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", range(2 + seed), seed=seed)
        write_run(tmp_path / f"b{seed}", range(30 + 2 * seed), seed=seed, optim__lr=0.2)
    study = Study(summarize(find_jobs([tmp_path])))
    assert study.family == 1
    for text in (as_latex(study), publish_markdown(study), methods(study)):
        assert "Holm" not in text
        assert "orrected" not in text
    assert "3 paired seeds" in methods(study)
    assert "for a number of seeds fixed in advance" in as_latex(study)


@pytest.mark.parametrize(("digest", "is_official"), [(OFFICIAL_DIGEST, True), ("0123456789abcdef", False)])
def test_only_the_official_files_are_called_official(tmp_path: Path, digest: str, is_official: bool) -> None:
    for seed in range(2):
        write_run(tmp_path / str(seed), range(2 + seed), seed=seed)
    set_digest(tmp_path, digest)
    jobs = find_jobs([tmp_path])
    assert ("with the official training and test split" in methods(Study(summarize(jobs)))) == is_official
    assert ("other than the official MNIST" in data_warning(jobs)) != is_official


def test_data_without_a_digest_are_not_called_official(tmp_path: Path) -> None:
    write_run(tmp_path / "old")
    assert "not known to be the official MNIST" in methods(Study(summarize(find_jobs([tmp_path]))))


def test_two_test_sets_of_equal_length_are_not_compared_image_by_image(tmp_path: Path) -> None:
    for name in "ab":
        write_run(tmp_path / name / "run", range(3))
    first, second = find_jobs([tmp_path])
    assert pair_section(first, second, ["a", "b"]) is not None
    set_digest(tmp_path / "a", OFFICIAL_DIGEST)
    set_digest(tmp_path / "b", "0123456789abcdef")
    first, second = find_jobs([tmp_path])
    assert pair_section(first, second, ["a", "b"]) is None


def test_the_figure_of_a_selected_setting_comes_with_the_one_without_its_luck(tmp_path: Path) -> None:
    """Settings are equal; each seed has one that is lucky on validation and test alike."""
    for index in range(3):
        for seed in range(3):
            write_run(
                tmp_path / f"{index}{seed}", range(2 if index == seed else 10), seed=seed, optim__lr=0.1 * (index + 1)
            )
    write_run(tmp_path / "one", range(1), seed=0, optim__lr=0.9)  # one seed neither is best nor hinders cross-fitting
    summary = summarize(find_jobs([tmp_path]))
    assert summary.cross_fitted is not None
    assert summary.cross_fitted < (summary.rows[0].mean("test_accuracy") or 0.0)
    for text in (render_page(summary.jobs, "title"), as_markdown(summary), methods(Study(summary))):
        assert f"{100 * summary.cross_fitted:.2f} %" in text


def test_settings_without_a_verdict_are_named_in_the_publication_and_in_the_plan(tmp_path: Path) -> None:
    for lr, seeds in ((0.1, (0, 1)), (0.2, (0, 2)), (0.3, (0, 1)), (0.4, (4, 5))):
        for seed in seeds:
            write_run(tmp_path / f"{lr}{seed}", range(int(100 * lr) + seed), seed=seed, optim__lr=lr)
    write_failure(tmp_path / "failed", "ValueError: no", optim__lr=0.2, seed=1)
    study = Study(summarize(find_jobs([tmp_path])))
    text = methods(study)
    assert "'lr=0.2' has a test accuracy of 79.00 ± 1.41 % (n = 2; not tested: one seed in common)." in text
    assert "Of 'lr=0.2', 1 of 3 runs failed" in text
    assert "'lr=0.4' has a test accuracy of 55.50 ± 0.71 % (n = 2; not tested: no seed in common" in text
    assert "& not tested" in as_latex(study)
    assert "no plan without an interval: lr=0.2; lr=0.4" in "\n".join(plan_lines(study.summary, 2.0))


def test_files_that_a_publication_did_not_use_have_no_hashes_in_it(tmp_path: Path) -> None:
    images = tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.parent.mkdir(parents=True)
    images.write_bytes(b"")
    for source, is_used in (("mnist", True), ("sample", False)):
        write_run(tmp_path / source, data__source=source, data__root=str(tmp_path / "data"))
        assert (images.name in hashes(Study(summarize(find_jobs([tmp_path / source]))))) == is_used
