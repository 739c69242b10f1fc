"""A typical user script, checked by mypy --strict and run: no `type: ignore`, no `.value`, no cast."""

from pathlib import Path

import mnist_mlp
from mnist_mlp import MLP, DataConfig, DigitClassifier, DigitData, Digits, ModelConfig, OptimConfig, Run, TrainerConfig

small = {"data.source": "sample", "data.subset": 0.02, "trainer.max_epochs": 1, "trainer.figures": False}
config = mnist_mlp.Config(
    data=DataConfig(root=Path("data"), source="sample", subset=0.02, val_size=100),
    model=ModelConfig(hidden_units=[32, 16], activation="gelu"),
    optim=OptimConfig(name="adam", lr=0.001, schedule="one_cycle"),
    trainer=TrainerConfig(max_epochs=1, accelerator="cpu", figures=False),
)
config.model = ModelConfig(hidden_units=32)
width: int = config.model.hidden_units[0]
runs: list[Run] = [
    mnist_mlp.fit(config, "runs/config", seed=3),
    mnist_mlp.fit({**small, "optim.lr": 0.01}, "runs/dotted"),
    mnist_mlp.fit({**small, "optim": {"lr": 0.01}}, "runs/nested"),
    mnist_mlp.fit(config, "runs/both", **{"optim.lr": 0.02}),
]
if width > 1000:
    mnist_mlp.fit(**{"optim.lr": 0.01})
composed = mnist_mlp.compose(["experiment=better", "optim.lr=0.01"])
sweep = mnist_mlp.sweep({**small, "optim.lr": [0.01, 0.1]}, "runs/sweep")
run = sweep.best()
assert run.config.optim.name == "sgd"
assert composed.optim.name == "adamw"
accuracy: float | None = run.metrics["test/accuracy"]
digits: Digits = mnist_mlp.load_digits("sample", "")
model: DigitClassifier = run.model()
data: DigitData = DigitData.from_config(config, digits)
network: MLP = MLP(hidden_layers=1, hidden_units=[8], activation="relu")
print(sum(item.config.optim.lr for item in runs), accuracy, model(digits.test_images[:2]).shape, network)
