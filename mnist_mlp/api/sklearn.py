"""MLPClassifier: `fit` as a scikit-learn estimator. Imported on first use: nothing else needs scikit-learn."""

from inspect import Parameter, Signature, cleandoc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mnist_mlp.api.results import Run
from mnist_mlp.api.training import configuration, one_at_a_time
from mnist_mlp.cli.help import likely_key
from mnist_mlp.config import PIXELS, Config
from mnist_mlp.data.mnist import Digits
from mnist_mlp.errors import UserError
from mnist_mlp.options import allowed_values, options, to_dict
from mnist_mlp.training.fit import fit as train

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(f"MLPClassifier: {error}; pip install 'mnist_mlp[sklearn]'") from error

if TYPE_CHECKING:
    from typing_extensions import Self

FIXED = {"data.name", "data.source", "model.network", "optim.teacher", "trainer.devices"}
"""Options that depend on files, custom code or processes."""
KEYS = {
    "optimizer" if key == "optim.name" else key.rpartition(".")[2]: key
    for key, _, metadata in options(Config())
    if metadata["affects_result"] and key not in FIXED
}
"""The option behind each parameter: those that affect the result."""
_VALUES = {key: tuple(value) if isinstance(value, list) else to_dict(value) for key, value, _ in options(Config())}
DEFAULTS = {name: _VALUES[key] for name, key in KEYS.items()} | {"hidden_layers": None, "val_size": None}
"""Defaults of the parameters, of types that scikit-learn allows; None depends on other values."""


class MLPClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An MLP for images of 28 x 28 pixels, as a scikit-learn classifier.

    It trains as `fit` does, silently, on one CPU thread unless `threads` says otherwise, and leaves no run folder.

    Attributes:
        classes_: The labels, sorted.
        n_features_in_: Number of pixels, 784.
        max_pixel_: Value of full ink in `X`, 1 or 255.
        model_: The DigitClassifier of the best epoch on the validation images.
        curves_: Metrics by name ("val/accuracy", ...), one number per epoch.
    """

    def __init__(self, **parameters: Any) -> None:
        for name in parameters.keys() - KEYS.keys():
            likely = next(
                (parameter for parameter, key in KEYS.items() if key.startswith(likely_key(name) or " ")), None
            )
            hint = f"did you mean {likely}?" if likely else f"use one of {', '.join(KEYS)}"
            raise TypeError(f"MLPClassifier has no parameter {name}: {hint}")
        for name, value in (DEFAULTS | parameters).items():
            setattr(self, name, value)

    def fit(self, X: ArrayLike, y: ArrayLike) -> "Self":  # noqa: N803
        """Train on images.

        Args:
            X: Images (n, 784) or (n, 28, 28), from 0 (background) to 1 if no value is larger, else to 255 (ink). Values
                are rounded to 256 levels.
            y: Labels (n,), strings or integers, of 2 to 255 classes.

        Returns:
            The estimator.

        Raises:
            UserError: A parameter or `X` is invalid, `y` has a single class, or training diverges.
        """
        pixels, targets = validate_data(self, _flattened(X), y)
        check_classification_targets(targets)
        self.classes_, labels = np.unique(targets, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(f"y has 1 class, {self.classes_[0]}: use at least 2 classes")
        self.max_pixel_ = 1 if pixels.max() <= 1 else 255
        images, settings = self._images(pixels), {key: getattr(self, name) for name, key in KEYS.items()}
        if self.val_size is None:
            settings["data.val_size"] = min(len(images) // 10, Config().data.val_size)
        if self.hidden_layers is None and np.ndim(self.hidden_units):
            settings["model.hidden_layers"] = len(self.hidden_units)
        config = configuration(None, {**settings, "trainer.progress": False, "trainer.figures": False})
        names = list(map(str, range(len(self.classes_))))
        # the core tests each run; here nobody sees the result, so one image will do
        digits = Digits(images, labels, images[:1], labels[:1], classes=names)
        with TemporaryDirectory(prefix="mnist_mlp-") as folder, one_at_a_time():
            run = Run(Path(folder), train(config, folder, job_label=type(self).__name__, digits=digits))
            self.model_, self.curves_ = run.model(), run.curves
        if run.status == "diverged":
            raise UserError(f"training diverged in epoch {run.result.epochs}: use a lower lr than {self.lr}")
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Predict labels.

        Args:
            X: Images as for `fit`, with the same value of full ink.

        Returns:
            The most probable label of each image, (n,).
        """
        indices = self.predict_proba(X).argmax(1)
        labels: NDArray[Any] = self.classes_[indices]
        return labels

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        """Predict class probabilities.

        Args:
            X: Images as for `fit`, with the same value of full ink.

        Returns:
            Probabilities (n, classes), in the order of `classes_`.
        """
        check_is_fitted(self)
        images = torch.from_numpy(self._images(validate_data(self, _flattened(X), reset=False)))
        probabilities: NDArray[np.float32] = self.model_.logits(images).softmax(1).numpy()
        return probabilities

    def _images(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        if (count := pixels.shape[1]) != PIXELS:
            raise UserError(f"X has {count} feature(s): expected images, (n, {PIXELS}) or (n, 28, 28)")
        low, high = pixels.min(), pixels.max()
        if low < 0 or high > self.max_pixel_ or 0 < high <= 1 < self.max_pixel_:
            raise UserError(
                f"X has values from {low:.4g} to {high:.4g}: expected pixels from 0 to {self.max_pixel_}, as in fit; "
                "do not standardize them, the classifier does"
            )
        scaled = pixels * 255 if self.max_pixel_ == 1 else pixels
        return scaled.round().astype(np.uint8, order="C").reshape(-1, 28, 28)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = tags.input_tags.positive_only = True
        return tags


def _flattened(X: Any) -> Any:  # noqa: N803
    return X.reshape(len(X), -1) if getattr(X, "shape", ())[1:] == (28, 28) else X


_self = Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)
_parameters = [Parameter(name, Parameter.KEYWORD_ONLY, default=value) for name, value in DEFAULTS.items()]
MLPClassifier.__init__.__signature__ = Signature([_self, *_parameters])  # type: ignore[attr-defined]
_lines = {key: f"{data['meaning']}; {allowed_values(value, data)}" for key, value, data in options(Config())}
_lines["data.val_size"] += "; default: a tenth of the images, at most 5,000"
_lines["model.hidden_layers"] = "number of hidden layers; default: one per width, or 3 if hidden_units is a number"
_arguments = "\n".join(f"    {name}: {_lines[key]}." for name, key in KEYS.items())
_summary, _, _attributes = cleandoc(MLPClassifier.__doc__ or "").partition("Attributes:")
MLPClassifier.__doc__ = f"{_summary}Args:\n{_arguments}\n\nAttributes:{_attributes}"
