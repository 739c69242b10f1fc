from mnist_mlp.cli.compose import job_name
from mnist_mlp.sweeps.live import label, settings_in, varying


def test_a_name_is_taken_apart_into_the_overrides_it_was_made_of() -> None:
    name = job_name(["optim.schedule=one_cycle", "optim.lr=1e-05", "model.hidden_units=[256,128]", "optim=adamw"])
    assert settings_in(name) == {"hidden_units": "256-128", "optim": "adamw", "lr": "1e-05", "schedule": "one_cycle"}
    assert settings_in(job_name(["optim.name=sgd", "seed=3"])) == {"optim.name": "sgd", "seed": "3"}
    assert settings_in("defaults") == settings_in("17") == settings_in("my-own_lr-1") == {}


def test_only_what_differs_tells_jobs_apart() -> None:
    names = [f"lr-{lr}_max_epochs-5_seed-{seed}_threads-1" for lr in (0.1, 0.2) for seed in (0, 1)]
    found = varying(names)
    assert label(names[3], found[names[3]]) == "lr 0.2, seed 1"
    assert varying([*names, "defaults"])["defaults"] == {}
    assert label("defaults", {}) == "defaults"
    assert varying(names[:1])[names[0]] == {}


def test_where_there_is_little_room_the_longest_keys_are_cut_and_values_stay_whole() -> None:
    settings = {"hidden_layers": "3", "normalization": "symmetric", "lr": "0.05"}
    whole = "hidden_layers 3, normalization symmetric, lr 0.05"
    assert label("", settings, len(whole)) == whole
    for room in range(len(whole), 33, -1):
        words = label("", settings, room)
        assert len(words) <= room
        assert all(value in words.split() for value in ("3,", "symmetric,", "0.05"))
    assert label("", settings, 5) == "hid 3, nor symmetric, lr 0.05"
