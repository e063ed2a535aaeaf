"""Statistics of searches: edit distance and paired bootstrap."""

from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.vae.errors import ShapeError
from lso.vae.utils.random import mix_seed
from lso.vae.utils.validation import require
from lso.vae.vocabulary import END, PAD

PAIRS = 50_000  # compared at once


def edits(a: Tensor, b: Tensor) -> Int[Tensor, " n"]:
    """Token edit distance (Levenshtein) of pairs of sequences; start, end and padding are no tokens of it."""
    chunks = zip(torch.split(_bodies(a), PAIRS), torch.split(_bodies(b.to(a.device)), PAIRS), strict=True)
    found = [_edits(*pair) for pair in chunks]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.long, device=a.device)


def sizes(x: Tensor) -> Int[Tensor, " n"]:
    """Tokens of sequences, without start, end and padding."""
    return (_bodies(x) != PAD).sum(1)


def share(a: Tensor, b: Tensor) -> Float[Tensor, " n"]:
    """Edit distance as a share of the longer sequence.

    Args:
        a: ``(n, length)``.
        b: ``(n, length)``, of a length of its own.
    Returns:
        ``(n,)`` in [0, 1], double; 0 for equal sequences, empty ones too.
    """
    longer = torch.maximum(sizes(a), sizes(b.to(a.device)))
    return edits(a, b).double() / longer.clamp(min=1)


def _bodies(x: Tensor) -> Tensor:
    """Without the start, the end as padding."""
    body = x.long()[:, 1:]
    return torch.where(body == END, PAD, body)


def _edits(a: Tensor, b: Tensor) -> Tensor:
    """Wagner and Fischer (1974) row by row; that a row depends on itself from left to right is a running minimum."""
    sizes_a, sizes_b = (a != PAD).sum(1), (b != PAD).sum(1)
    columns = torch.arange(b.shape[1] + 1, device=a.device)
    row = columns.expand(len(a), -1)
    for i in range(a.shape[1]):
        replaced = row[:, :-1] + (a[:, i : i + 1] != b)
        above = torch.cat([row[:, :1] + 1, torch.minimum(row[:, 1:] + 1, replaced)], 1)
        following = (above - columns).cummin(1).values + columns
        row = torch.where((i < sizes_a)[:, None], following, row)
    return row.gather(1, sizes_b[:, None])[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and its percentile interval.

    Args:
        mean: of the differences.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of 0, else 0."""
        return (self.low > 0) - (self.high < 0)


def paired_bootstrap(
    difference: Float[Tensor, " target"], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of paired differences, targets drawn with replacement.

    Args:
        difference: ``(targets,)`` of two measures of the same target.
        level: share of resampled means inside.
        draws: resamples.
        seed: of the resamples.
    Returns:
        The interval; of a single target, or of equal differences, it is a point; where one is not finite,
        its ends are NaN.
    Raises:
        ShapeError: if there is no target.
        UsageError: if the level is not between 0 and 1.
    Source: Efron & Tibshirani (1993), ch. 13.
    """
    require(0 < level < 1, "a level between 0 and 1", level, "0.95 is usual.")
    if len(difference) == 0:
        raise ShapeError("expected differences of at least one target, got none", "Search for some targets.")
    from scipy.stats import bootstrap  # late: it takes a second to import

    values = difference.double().cpu().numpy()
    mean = float(values.mean())
    if not numpy.isfinite(values).all():  # of a search that broke down
        return Interval(mean=mean, low=numpy.nan, high=numpy.nan)
    if (values == values[0]).all():  # every resample has this mean, of which scipy warns
        return Interval(mean=mean, low=mean, high=mean)
    stream = numpy.random.default_rng(mix_seed(seed, "bootstrap", len(values)))
    found = bootstrap(
        (values,), numpy.mean, n_resamples=draws, confidence_level=level, method="percentile", random_state=stream
    ).confidence_interval
    return Interval(mean=mean, low=float(found.low), high=float(found.high))
