"""Number of hypothesis examples: a small sample by default, ten thousand in `make test-faults`."""

import os

from hypothesis import HealthCheck, settings

MANY = os.environ.get("MNIST_MLP_CASES")


def cases(sample: int, many: int) -> settings:
    """Hypothesis settings for `sample` examples, or for `many` if MNIST_MLP_CASES is set."""
    return settings(
        max_examples=many if MANY else sample,
        deadline=None,
        derandomize=not MANY,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
