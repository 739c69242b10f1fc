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
