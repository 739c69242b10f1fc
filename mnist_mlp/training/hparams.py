"""A run's row in TensorBoard's HPARAMS tab: what was set for it first, since the tab shows the first columns alone.

Written as protocol buffers, since SummaryWriter.add_hparams sorts the columns by name and makes numbers of booleans.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter

from mnist_mlp.runs.board import FINAL
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import flatten

HPARAMS = (
    "seed", "data.normalization", "data.subset", "data.batch_size", "model.hidden_layers", "model.hidden_units",
    "model.activation", "model.dropout", "model.batch_norm", "optim.name", "optim.lr", "optim.momentum",
    "optim.weight_decay", "optim.schedule", "trainer.max_epochs",
)  # fmt: skip
"""Columns of every run, beside `data.source` and `parameters`; other settings that were given are added."""
METRICS = ("val/accuracy", "test/accuracy", "test/f1_macro", "test/loss")


def write_hparams(writer: SummaryWriter, result: RunResult) -> None:
    """Settings (numbers, booleans, texts) and final metrics, those in the order that TensorBoard is to show."""
    settings = hparams(result, swept_keys())
    metrics = {name: result.metric(name) for name in METRICS if name in result.metrics}
    metrics["fit_seconds"] = result.timing["fit_seconds"]
    tags = {name: f"{FINAL}/{name.replace('/', '_')}" for name in metrics}
    session = plugin_data_pb2.SessionStartInfo()
    for key, value in settings.items():
        setattr(session.hparams[key], _field(value), value)
    experiment = api_pb2.Experiment(
        hparam_infos=[api_pb2.HParamInfo(name=key, type=_type(value)) for key, value in settings.items()],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name.replace("_", " "))
            for name, tag in tags.items()
        ],
    )
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    _write(writer, metadata.EXPERIMENT_TAG, experiment=experiment)
    _write(writer, metadata.SESSION_START_INFO_TAG, session_start_info=session)
    _write(writer, metadata.SESSION_END_INFO_TAG, session_end_info=end)
    for name, tag in tags.items():
        writer.add_scalar(tag, metrics[name], result.epochs)


def swept_keys() -> list[str]:
    """The keys that the sweep varies which this run is a job of; none outside a sweep of the command line."""
    return [key for key in os.environ.get("MNIST_MLP_SWEPT_KEYS", "").split(",") if key]


def hparams(result: RunResult, swept: Sequence[str] = ()) -> dict[str, Any]:
    """What the sweep varies, then what else was given for this run, then the rest."""
    config = flatten(result.config)
    given = [override.lstrip("+~").partition("=")[0] for override in result.overrides]
    first = [key for key in (*swept, *given) if key in config]
    row: dict[str, Any] = {key: _plain(config, key) for key in (*first, *HPARAMS)}
    rest = {"data.source": result.data["source"], "parameters": result.parameters}
    return {**row, **{key: value for key, value in rest.items() if key not in row}}


def _plain(config: Mapping[str, Any], key: str) -> Any:
    value = config[key]
    if isinstance(value, list):
        return "-".join(map(str, value))
    return "null" if value is None else value


def _field(value: Any) -> str:
    if isinstance(value, bool):
        return "bool_value"
    return "number_value" if isinstance(value, (int, float)) else "string_value"


def _type(value: Any) -> Any:
    names = {
        "bool_value": api_pb2.DATA_TYPE_BOOL,
        "number_value": api_pb2.DATA_TYPE_FLOAT64,
        "string_value": api_pb2.DATA_TYPE_STRING,
    }
    return names[_field(value)]


def _write(writer: SummaryWriter, tag: str, **content: Any) -> None:
    data = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, metadata=data)]))
