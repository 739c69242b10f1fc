"""Published vs measured results, on synthetic runs with known accuracies."""

from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_run
from omegaconf import OmegaConf

from mnist_mlp.api.results import Sweep
from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.compare.published import RULES
from mnist_mlp.config import conf_folder
from mnist_mlp.reporting.elements import Section
from mnist_mlp.reporting.sections_study import agreement, claim_verdicts, reference_sections

CLAIMS = [
    {"claim": "Normalising the inputs helps", "better": "normalized", "worse": "raw"},
    {"claim": "A higher learning rate and more epochs help", "better": "fast", "worse": "slow"},
    {"claim": "Half the training data costs accuracy", "better": "fast", "worse": "half"},
    {"claim": "Too high a learning rate learns nothing", "learns_nothing": "too_high"},
    {"claim": "Quite another study", "better": "here", "worse": "there"},
]


def repeat(folder: Path, name: str, wrong: tuple[int, ...], **settings: Any) -> None:
    """Write one run per entry of `wrong` with that many mistakes on 100 test images, seeds from 0."""
    for seed, count in enumerate(wrong):
        reference = {"reference__source": "A study", "reference__claims": CLAIMS, **settings}
        write_run(folder / f"{name}_{seed}", wrong=range(count), seed=seed, reference__id=name, **reference)


def sections(folder: Path) -> dict[str, Section]:
    return {section.title: section for section in reference_sections(summarize(find_jobs([folder])))}


def test_a_row_has_both_accuracies_their_difference_and_inferred_settings(tmp_path: Path) -> None:
    repeat(tmp_path, "fast", (3, 5, 4), reference__test_accuracy=0.965, reference__inferred=["data.batch_size"])
    repeat(tmp_path, "too_high", (90, 90, 90))
    section = sections(tmp_path)["Published vs measured"]
    assert section.table is not None
    fast, too_high = section.table.rows
    assert list(fast) == [
        *(
            "fast",
            "96.50",
            "96.00 ± 1.00",
            "3",
            "-0.50",
            "within 1 point, less than seeds differ (standard deviation 1.00)",
        )
    ]
    assert section.folded["Inferred settings"].rows[0] == ["fast", "data.batch_size=64"]
    assert list(too_high)[1:6] == ["-", "10.00 ± 0.00", "3", "-", "no number published"]


@pytest.mark.parametrize(
    ("measured", "published", "words"),
    [
        ([0.96, 0.98], 0.975, "within 1 point, less than seeds differ (standard deviation 1.41)"),
        ([0.98, 0.98, 0.80], 0.99, "more than 1 point, less than seeds differ (standard deviation 10.39)"),
        ([0.970, 0.9701], 0.975, "within 1 point"),
        ([0.97], 0.97, "within 1 point"),
        ([0.96, 0.961], 0.975, "more than 1 point"),
    ],
)
def test_agreement_is_within_one_deviation_or_one_point(measured: list[float], published: float, words: str) -> None:
    assert agreement(measured, published) == words


def test_claims_are_confirmed_or_contradicted_by_the_runs(tmp_path: Path) -> None:
    repeat(tmp_path, "normalized", (10, 11, 12))
    repeat(tmp_path, "raw", (3, 5, 4))
    repeat(tmp_path, "fast", (3, 3, 4))
    repeat(tmp_path, "slow", (10, 11, 12))
    repeat(tmp_path, "half", (3, 4, 3))
    repeat(tmp_path, "too_high", (30, 90, 90))
    claims = {
        claim.partition(":")[0]: claim
        for claim in sections(tmp_path)["Claims of the study, tested on these runs"].sentences
    }
    assert ": contradicted (normalized against raw: -7.00 [" in claims["Normalising the inputs helps"]
    assert ": confirmed (fast against slow" in claims["A higher learning rate and more epochs help"]
    assert ": not confirmed (" in claims["Half the training data costs accuracy"]
    assert "contradicted (too_high: at most 70.00 %" in claims["Too high a learning rate learns nothing"]
    assert len(claims) == 4  # claims without matching runs are skipped


@pytest.mark.parametrize(("seeds", "verdict"), [(1, "not tested"), (2, "confirmed")])
def test_claims_on_accuracy_and_time_are_not_tested_with_one_seed(tmp_path: Path, seeds: int, verdict: str) -> None:
    claims = [
        {"claim": "better", "better": "a_2", "worse": "a_1"},
        {"claim": "slower", "slower_with": "model.hidden_layers", "runs": "a_*"},
    ]
    for layers, wrong in ((1, 30), (2, 5)):
        options = {"model__hidden_layers": layers, "reference__claims": claims}
        repeat(tmp_path, f"a_{layers}", (wrong, wrong + 1)[:seeds], **options)
    sentences = claim_verdicts(summarize(find_jobs([tmp_path])))
    assert [sentence.split(": ")[1].split(" (")[0] for sentence in sentences] == [verdict] * 2


def test_the_presets_include_the_claims_of_the_study() -> None:
    (study,) = conf_folder().glob("reference/*.yaml")
    content = OmegaConf.to_container(OmegaConf.load(study))
    assert isinstance(content, dict)
    assert len(content["claims"]) == 6
    assert all(len(set(claim) & set(RULES)) == 1 for claim in content["claims"])


def test_a_claim_about_settings_has_the_verdict_of_the_sweep(tmp_path: Path) -> None:
    claims = [
        {"claim": "low", "better": "optim.lr=0.1 model.hidden_units=[8,4]", "worse": "optim.lr=0.2"},
        {"claim": "high", "better": "optim.lr=0.3", "worse": "optim.lr=0.1"},
        {"claim": "same", "better": "optim.lr=0.1 data.subset=full", "worse": "optim.lr=0.1 data.subset=half"},
        {"claim": "absent", "better": "optim.lr=0.1", "worse": "optim.lr=9"},
    ]
    wrong = {"optim__lr": {0.1: 4, 0.2: 12, 0.3: 25}, "data__subset": {"full": 0, "half": 1}}
    for lr, errors in wrong["optim__lr"].items():
        for subset in wrong["data__subset"]:
            for seed in range(5):
                mistakes = range(errors + (seed + (subset == "half")) % 3)
                settings = {"optim__lr": lr, "data__subset": subset, "model__hidden_units": [8, 4]}
                write_run(tmp_path / f"{lr}_{subset}_{seed}", mistakes, seed=seed, reference__claims=claims, **settings)
    sweep = Sweep(tmp_path, find_jobs([tmp_path]))
    verdicts = dict(sentence.split(": ", 1) for sentence in claim_verdicts(sweep.summary))
    words = [verdicts[claim["claim"]].split(" (")[0].split(",")[0] for claim in claims]
    assert words == ["confirmed", "contradicted", "not confirmed", "not tested: no matching runs"]
    difference = sweep.compare({"optim.lr": 0.1}, {"optim.lr": 0.2})
    assert f"p = {difference.p_value:.2g} adjusted for {difference.comparisons} " in verdicts["low"]


def test_f1_per_digit_is_compared_with_the_published_one(tmp_path: Path) -> None:
    repeat(tmp_path, "slow", (0,), reference__f1_per_class=[0.9] * 10)
    table = sections(tmp_path)["F1 per class: published vs measured"].table
    assert table is not None
    assert [row[2] for row in table.rows] == ["0.9000", "1.0000", "+0.1000"]


def test_runs_without_a_published_result_have_no_such_section(tmp_path: Path) -> None:
    write_run(tmp_path / "plain")
    assert sections(tmp_path) == {}


def test_every_reference_preset_trains_on_all_images_and_selects_nothing_on_test() -> None:
    from omegaconf import OmegaConf

    presets = sorted(conf_folder().glob("experiment/reference_*.yaml"))
    assert len(presets) == 11
    for path in presets:
        content = OmegaConf.load(path)
        assert content.reference.id == path.stem.removeprefix("reference_")
        assert (content.data.source, content.data.val_size, content.trainer.test_curve) == ("mnist", 0, True), path.name
        header = path.read_text()
        assert all(f"# {word}" in header for word in ("What:", "Source:", "Command:", "Expected:")), path.name
        assert f"experiment={path.stem}" in header


def test_a_classification_report_with_one_published_column(tmp_path: Path) -> None:
    repeat(tmp_path, "fast", (3, 5), reference__precision_per_class=[0.9] * 10)
    table = sections(tmp_path)["Report of fast: published vs measured"].table
    assert table is not None
    assert table.rows[0][1] == "0.90"
    assert table.rows[0][3] == table.rows[0][5] == "-"


@pytest.mark.parametrize("claim", [{"better": "fast"}, {"slower_with": "optim.name", "runs": "*", "claim": "x"}])
def test_an_incomplete_claim_is_not_decided(tmp_path: Path, claim: dict[str, str]) -> None:
    for name, optimizer in (("fast", "adam"), ("slow", "sgd")):
        repeat(tmp_path, name, (3,), reference__claims=[claim], optim__name=optimizer)
    (sentence,) = sections(tmp_path)["Claims of the study, tested on these runs"].sentences
    assert "cannot be decided" in sentence


def test_a_run_with_changed_preset_settings_is_excluded(tmp_path: Path) -> None:
    repeat(tmp_path, "fast", (3, 5), reference__test_accuracy=0.965)
    write_run(tmp_path / "mine", wrong=range(50), seed=7, reference__id="fast", optim__lr=0.5)
    file = tmp_path / "mine" / "result.json"
    text = file.read_text()
    for overrides, n in (('"experiment=fast", "optim.lr=0.5"', "2"), ('"experiment=fast", "seed=7", "name=x"', "3")):
        file.write_text(text.replace('"overrides": []', f'"overrides": [{overrides}]'))
        section = sections(tmp_path)["Published vs measured"]
        assert section.table is not None
        assert section.table.rows[0][3] == n
        assert any("mine (optim.lr=0.5)" in note for note in section.notes) == (n == "2")
