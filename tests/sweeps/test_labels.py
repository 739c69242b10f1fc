from mnist_mlp.sweeps.live import label, varying


def test_only_what_differs_distinguishes_jobs() -> None:
    jobs = {
        f"{lr} {seed}": [f"optim.lr={lr}", f"seed={seed}", "trainer.max_epochs=5", "model.hidden_units=[8,4]"]
        for lr in (0.1, 0.2)
        for seed in (0, 1)
    }
    assert label("0.2 1", varying(jobs)["0.2 1"]) == "lr 0.2, seed 1"
    more = varying({**jobs, "defaults": ["optim=adam", "--config-dir=x"]})
    assert label("0.2 1", more["0.2 1"]) == "lr 0.2, seed 1, max_epochs 5, hidden_units 8-4"
    assert label("defaults", {}) == "defaults"
    assert varying({"one": ["seed=1"]}) == {"one": {}}


def test_where_there_is_little_room_the_longest_keys_are_cut_and_values_stay_whole() -> None:
    settings = {"hidden_layers": "3", "normalization": "symmetric", "lr": "0.05"}
    whole = "hidden_layers 3, normalization symmetric, lr 0.05"
    assert label("", settings, len(whole)) == whole
    for width in range(len(whole), 33, -1):
        words = label("", settings, width)
        assert len(words) <= width
        assert all(value in words.split() for value in ("3,", "symmetric,", "0.05"))
    assert label("", settings, 5) == "hid 3, nor symmetric, lr 0.05"
