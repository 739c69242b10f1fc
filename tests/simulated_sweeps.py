"""Made-up sweeps whose true accuracies are known: right and wrong of nets on images, by a probit model.

A net is right where skill + seed + image + (image of this setting) + rest > 0, all normal, so that the accuracy of a
setting over all seeds and all images like these is a value of the normal distribution function, and so is its
accuracy over all seeds on the very images that were drawn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from mnist_mlp.compare.statistics import Variance

Right = NDArray[np.bool_]
"""(settings, seeds, images)."""


@dataclass(frozen=True)
class Population:
    """Standard deviations of the latent parts; that of the rest is 1. image is shared by all settings."""

    seed: float
    own_image: float
    image: float = 1.5

    def skill(self, accuracy: float) -> float:
        """What gives a setting this accuracy over all seeds and images."""
        return float(ndtri(accuracy)) * self._deviation

    def variance(self, accuracies: list[float]) -> Variance:
        """Where a difference of two settings of these accuracies comes from, exactly."""
        total = self._deviation**2
        skills = [float(ndtri(accuracy)) for accuracy in accuracies]

        def together(first: int, second: int, shared: float) -> float:
            """The covariance of right of two nets that share so much of the latent variance."""
            covariance = shared / total
            both = multivariate_normal([0, 0], [[1, covariance], [covariance, 1]])
            return float(both.cdf([skills[first], skills[second]])) - accuracies[first] * accuracies[second]

        across = 2 * together(0, 1, self.image**2)
        seed = sum(together(n, n, self.seed**2) for n in (0, 1))
        image = sum(together(n, n, self.image**2 + self.own_image**2) for n in (0, 1)) - across
        everything = sum(accuracy * (1 - accuracy) for accuracy in accuracies) - across
        return Variance(seed, image, everything - seed - image)

    @property
    def _deviation(self) -> float:
        return float(np.sqrt(1 + self.seed**2 + self.image**2 + self.own_image**2))

    def draw(
        self, random: np.random.Generator, accuracies: list[float], seeds: int, images: int, chosen_on: int = 0
    ) -> tuple[Right, NDArray[np.float64], NDArray[np.float64]]:
        """One sweep: right on test; true accuracies on these very images; validation accuracies (settings,), of the
        same nets on `chosen_on` other images (zeros for none)."""
        skills = np.array([self.skill(accuracy) for accuracy in accuracies])[:, None]
        trained = skills + self.seed * random.standard_normal((len(accuracies), seeds))
        ease = self._ease(random, len(accuracies), images)
        right = self._right(random, trained, ease)
        here = ndtr((skills + ease) / np.sqrt(1 + self.seed**2)).mean(1)
        validation = self._right(random, trained, self._ease(random, len(accuracies), chosen_on)) if chosen_on else None
        return right, here, np.zeros(len(accuracies)) if validation is None else validation.mean((1, 2))

    def _ease(self, random: np.random.Generator, settings: int, images: int) -> NDArray[np.float32]:
        shared = self.image * random.standard_normal(images, dtype=np.float32)
        return shared + np.float32(self.own_image) * random.standard_normal((settings, images), dtype=np.float32)

    @staticmethod
    def _right(random: np.random.Generator, trained: NDArray[np.float64], ease: NDArray[np.float32]) -> Right:
        rest = random.standard_normal((*trained.shape, ease.shape[1]), dtype=np.float32)
        rest += ease[:, None]
        return rest > -trained.astype(np.float32)[:, :, None]


POPULATIONS = {
    "images dominate": Population(seed=0.005, own_image=0.6),
    "both": Population(seed=0.05, own_image=0.5),
    "seeds dominate": Population(seed=0.1, own_image=0.2),
}
"""Latent parts; 'seeds dominate' is like nets after two epochs, 'images dominate' like well-trained ones of two
kinds."""
