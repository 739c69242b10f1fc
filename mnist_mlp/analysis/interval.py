"""A difference with its interval and its p-value, whichever estimate they come from. Imports no torch."""

from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean difference of accuracies and what is known of its error.

    error: standard error, None where the runs do not tell it; degrees: of freedom of Student's t; n: seeds;
    images: test images that are taken for a draw as well, 0 where the interval holds for these images alone.
    """

    mean: float
    error: float | None
    degrees: float
    n: int
    images: int = 0

    @property
    def low(self) -> float | None:
        """Lower end of the 95 % interval."""
        return None if self.error is None else self.mean - self._half(self.error)

    @property
    def high(self) -> float | None:
        """Upper end of the 95 % interval."""
        return None if self.error is None else self.mean + self._half(self.error)

    @property
    def covers_zero(self) -> bool:
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high

    @property
    def p_value(self) -> float | None:
        """Two-sided, of no difference, before any correction for several comparisons."""
        if self.error is None:
            return None
        from scipy.special import stdtr  # deferred: a table without seeds needs no scipy

        return 2 * float(stdtr(self.degrees, -abs(self.mean) / self.error))

    def _half(self, error: float) -> float:
        from scipy.special import stdtrit

        return error * float(stdtrit(self.degrees, (1 + CONFIDENCE) / 2))
