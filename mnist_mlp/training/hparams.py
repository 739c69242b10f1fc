"""A run's row in TensorBoard's HPARAMS tab, with what the sweep varies first.

The tab shows the first columns alone: those marked as differing, then by name. SummaryWriter.add_hparams marks none and
makes numbers of booleans, so the protocol buffers are written here.
"""

import os
from collections.abc import Sequence
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter

from mnist_mlp.runs.board import FINAL
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import flatten, settings

HPARAMS = (
    "seed", "data.normalization", "data.subset", "data.batch_size", "model.hidden_layers", "model.hidden_units",
    "model.activation", "model.dropout", "model.batch_norm", "optim.name", "optim.lr", "optim.momentum",
    "optim.weight_decay", "optim.schedule", "trainer.max_epochs",
)  # fmt: skip
"""Columns of every run, beside `data.source` and `parameters`; other settings that were given are added."""
OF_GROUP = {
    "optim": ("optim.name",),
    "model": ("model.hidden_layers", "model.hidden_units"),
    "augment": ("augment.elastic", "augment.elastic_sigma"),
}
"""What tells the presets of a group apart."""
METRICS = ("val/accuracy", "test/accuracy", "test/f1_macro", "test/loss")


def write_hparams(writer: SummaryWriter, result: RunResult) -> None:
    """Settings (numbers, booleans, texts) and final metrics."""
    row, first = hparams(result), set(first_keys(result, swept_keys()))
    metrics = {name: result.metric(name) for name in METRICS if name in result.metrics}
    metrics["fit_seconds"] = result.timing["fit_seconds"]
    tags = {name: f"{FINAL}/{name.replace('/', '_')}" for name in metrics}
    session = plugin_data_pb2.SessionStartInfo()
    for key, value in row.items():
        setattr(session.hparams[key], _field(value), value)
    experiment = api_pb2.Experiment(
        hparam_infos=[
            api_pb2.HParamInfo(name=key, type=_type(value), differs=key in first) for key, value in row.items()
        ],
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


def first_keys(result: RunResult, swept: Sequence[str] = ()) -> list[str]:
    """What the sweep varies, without a sweep what was given for this run; of that what decides the result."""
    given = swept or [override.lstrip("+~").partition("=")[0] for override in result.overrides]
    known = settings(result.config)
    return [key for one in given for key in OF_GROUP.get(one, (one,)) if key in known]


def hparams(result: RunResult) -> dict[str, Any]:
    """The columns: those of every run, and what else was given for this one."""
    config = flatten(result.config)
    row = {key: _plain(config[key]) for key in (*HPARAMS, *first_keys(result))}
    return {**row, "data.source": result.data["source"], "parameters": result.parameters}


def _plain(value: Any) -> Any:
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
