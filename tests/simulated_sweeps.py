"""Simulated sweeps with known true accuracies: correctness of nets on images by a probit model.

A net is correct if skill + seed + image + image-by-setting + residual > 0, all normal. A setting's accuracy over all
seeds and images is therefore a value of the normal distribution function, and so is its accuracy over all seeds on the
images that were drawn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from mnist_mlp.compare.statistics import Variance

Correct = NDArray[np.bool_]
"""Whether nets are correct, (settings, seeds, images)."""


@dataclass(frozen=True)
class Population:
    """Standard deviations of the latent components; the residual has 1. image: shared by all settings."""

    seed: float
    setting_image: float
    image: float = 1.5

    def skill(self, accuracy: float) -> float:
        """The skill that gives a setting this accuracy over all seeds and images."""
        return float(ndtri(accuracy)) * self._deviation

    def variance(self, accuracies: list[float]) -> Variance:
        """The exact variance components of the difference between two settings of these accuracies."""
        total = self._deviation**2
        skills = [float(ndtri(accuracy)) for accuracy in accuracies]

        def covariance(first: int, second: int, shared: float) -> float:
            """The covariance of the correctness of two nets that share this much latent variance."""
            correlation = shared / total
            both = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]])
            return float(both.cdf([skills[first], skills[second]])) - accuracies[first] * accuracies[second]

        across = 2 * covariance(0, 1, self.image**2)
        seed = sum(covariance(n, n, self.seed**2) for n in (0, 1))
        image = sum(covariance(n, n, self.image**2 + self.setting_image**2) for n in (0, 1)) - across
        total_variance = sum(accuracy * (1 - accuracy) for accuracy in accuracies) - across
        return Variance(seed, image, total_variance - seed - image)

    @property
    def _deviation(self) -> float:
        return float(np.sqrt(1 + self.seed**2 + self.image**2 + self.setting_image**2))

    def draw(
        self, random: np.random.Generator, accuracies: list[float], seeds: int, images: int, validation_images: int = 0
    ) -> tuple[Correct, NDArray[np.float64], NDArray[np.float64]]:
        """Draw a sweep: correctness on test images, true accuracies on them (settings,), and validation accuracies
        of the same nets on other images (settings,), zeros without any."""
        skills = np.array([self.skill(accuracy) for accuracy in accuracies])[:, None]
        net_skills = skills + self.seed * random.standard_normal((len(accuracies), seeds))
        ease = self._ease(random, len(accuracies), images)
        correct = self._simulate(random, net_skills, ease)
        on_images = ndtr((skills + ease) / np.sqrt(1 + self.seed**2)).mean(1)
        if not validation_images:
            return correct, on_images, np.zeros(len(accuracies))
        validation = self._simulate(random, net_skills, self._ease(random, len(accuracies), validation_images))
        return correct, on_images, validation.mean((1, 2))

    def _ease(self, random: np.random.Generator, settings: int, images: int) -> NDArray[np.float32]:
        shared = self.image * random.standard_normal(images, dtype=np.float32)
        return shared + np.float32(self.setting_image) * random.standard_normal((settings, images), dtype=np.float32)

    @staticmethod
    def _simulate(random: np.random.Generator, skills: NDArray[np.float64], ease: NDArray[np.float32]) -> Correct:
        latent = random.standard_normal((*skills.shape, ease.shape[1]), dtype=np.float32)
        latent += ease[:, None]
        return latent > -skills.astype(np.float32)[:, :, None]


POPULATIONS = {
    "images dominate": Population(seed=0.005, setting_image=0.6),
    "both": Population(seed=0.05, setting_image=0.5),
    "seeds dominate": Population(seed=0.1, setting_image=0.2),
}
"""'seeds dominate' resembles nets after two epochs, 'images dominate' two well-trained architectures."""
