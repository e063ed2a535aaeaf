"""Edit distances between batches of token sequences, and the paired bootstrap."""

from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.vae.errors import ShapeError
from lso.vae.utils.random import mix_seed
from lso.vae.utils.validation import require
from lso.vae.vocabulary import END, PAD

MAX_PAIRS = 50_000  # pairs of sequences compared at once, to bound memory


def edit_distance(a: Tensor, b: Tensor) -> Int[Tensor, " n"]:
    """Levenshtein distance in tokens between pairs of sequences; start, end and padding tokens do not count."""
    chunks = zip(
        torch.split(_strip_markers(a), MAX_PAIRS), torch.split(_strip_markers(b.to(a.device)), MAX_PAIRS), strict=True
    )
    found = [_edit_distance(*pair) for pair in chunks]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.long, device=a.device)


def token_counts(x: Tensor) -> Int[Tensor, " n"]:
    """Number of tokens of each sequence, without start, end and padding."""
    return (_strip_markers(x) != PAD).sum(1)


def normalized_edit_distance(a: Tensor, b: Tensor) -> Float[Tensor, " n"]:
    """Edit distance divided by the length of the longer sequence: ``(n,)`` in [0, 1], 0 for equal sequences.

    The two batches may be padded to different lengths.
    """
    longer = torch.maximum(token_counts(a), token_counts(b.to(a.device)))
    return edit_distance(a, b).double() / longer.clamp(min=1)


def _strip_markers(x: Tensor) -> Tensor:
    """Drop the start token and turn the end token into padding."""
    body = x.long()[:, 1:]
    return torch.where(body == END, PAD, body)


def _edit_distance(a: Tensor, b: Tensor) -> Tensor:
    """Levenshtein distance by rows of the dynamic program of Wagner and Fischer (1974), all pairs at once.

    Within a row each entry depends on the one to its left; that recursion is computed as a running minimum.
    """
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
    """A mean and the ends of its percentile interval."""

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
    """Percentile interval of the mean of paired differences, with targets drawn with replacement.

    Args:
        difference: ``(targets,)`` difference of two measures of the same target.
        level: share of resampled means inside the interval.
        draws: number of resamples.
        seed: of the resampling.
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
        raise ShapeError("expected differences of at least one target, got none", "Search for at least one target.")
    from scipy.stats import bootstrap  # imported late: it takes a second

    values = difference.double().cpu().numpy()
    mean = float(values.mean())
    if not numpy.isfinite(values).all():  # as of a search that broke down
        return Interval(mean=mean, low=numpy.nan, high=numpy.nan)
    if (values == values[0]).all():  # scipy warns where every resample has the same mean
        return Interval(mean=mean, low=mean, high=mean)
    stream = numpy.random.default_rng(mix_seed(seed, "bootstrap", len(values)))
    found = bootstrap(
        (values,), numpy.mean, n_resamples=draws, confidence_level=level, method="percentile", random_state=stream
    ).confidence_interval
    return Interval(mean=mean, low=float(found.low), high=float(found.high))
