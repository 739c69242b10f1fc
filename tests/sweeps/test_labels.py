from mnist_mlp.sweeps.live import format_settings, varying_settings


def test_jobs_are_labeled_with_the_settings_that_vary() -> None:
    jobs = {
        f"{lr} {seed}": [f"optim.lr={lr}", f"seed={seed}", "trainer.max_epochs=5", "model.hidden_units=[8,4]"]
        for lr in (0.1, 0.2)
        for seed in (0, 1)
    }
    assert format_settings("0.2 1", varying_settings(jobs)["0.2 1"]) == "lr=0.2, seed 1"
    settings = varying_settings({**jobs, "defaults": ["optim=adam", "--config-dir=x"]})
    assert format_settings("0.2 1", settings["0.2 1"]) == "lr=0.2, seed 1, max_epochs=5, hidden_units=8-4"
    assert format_settings("defaults", {}) == "defaults"
    assert varying_settings({"job": ["seed=1"]}) == {"job": {}}
