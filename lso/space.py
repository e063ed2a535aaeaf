"""The latent space of a search: prior, bounds, chart (search coordinates), sampling, and typicality of codes."""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from lso.vae.distributions.gaussian import TINY_SQUARE, StandardNormal
from lso.vae.distributions.gaussian import log_typicality as log_typicality
from lso.vae.distributions.gaussian import norm_percentile as norm_percentile
from lso.vae.errors import ShapeError, UsageError, unknown_name
from lso.vae.metrics import active_units
from lso.vae.protocols import Posterior, Prior


def mahalanobis(
    z: Float[Tensor, "*batch latent"], mean: Float[Tensor, " latent"], whitening: Float[Tensor, "latent latent"]
) -> Float[Tensor, "*batch"]:
    """Distance |W (z - m)| = sqrt((z - m)^T C^-1 (z - m)) of codes from a cloud with mean m and covariance C.

    In standard deviations, ``(...)``; W is of `whitening_matrix`. At z = m the distance is 0, and so is its gradient.
    """
    # Computed as a norm, since in single precision the quadratic form of C^-1 is inexact and may become negative where
    # C is ill-conditioned, as it is with dead dimensions.
    square = ((z - mean) @ whitening.T).square().sum(-1)
    return torch.where(square <= TINY_SQUARE, 0.0, square.clamp_min(TINY_SQUARE).sqrt())


def whitening_matrix(
    mean: Float[Tensor, "n latent"], variance: Float[Tensor, "n latent"] | None = None
) -> Float[Tensor, "latent latent"]:
    """The matrix W that whitens the aggregated posterior of n >= 2 data: W = L^-1, L L^T = C, so that W^T W = C^-1.

    C is the covariance of the posterior means + the mean posterior variance (None where only points are known). W is
    lower triangular; it is NaN where a code is not finite.
    """
    centered = mean.double() - mean.double().mean(0)
    covariance = centered.T @ centered / (len(mean) - 1)
    # Without the variances prior draws would count as far away: posterior means of weak dimensions hardly vary.
    if variance is not None:
        covariance = covariance + torch.diag(variance.double().mean(0))
    ridge = 1e-6 * covariance.diagonal().mean() + 1e-12  # makes C positive definite
    identity = torch.eye(mean.shape[1], dtype=covariance.dtype, device=mean.device)
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge * identity)
    whitening: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return torch.where(failed == 0, whitening, torch.nan).to(mean.dtype)


CHARTS = ("box", "cdf", "active")
SAMPLINGS = ("prior", "codes", "sobol")

CODE_QUANTILES = (0.0005, 0.9995)  # of bounds="codes", as in T-LBO (Grosnit et al. 2021)
CDF_EDGE = 0.001  # the cdf chart is clipped to [0.001, 0.999]: +-3.09 prior standard deviations
MIN_WIDTH = 0.2  # smallest side of bounds="codes": the codes of a dead dimension all lie at one point
MAX_TYPICAL_PERCENTILE = 0.999  # norm percentile above which a code is atypical
BOUND_TOLERANCE = 1e-6  # share of a side of the box within which a code counts as lying on its bound


class LatentSpace:
    """The prior N(0, I) over d dimensions, the box to search, the coordinates of the search, and typicality.

    Args:
        dim: number of dimensions d.
        bounds: half-width of the box, a ``2 x d`` tensor of lower and upper bounds, or ``"codes"``: the 0.05 % and
            99.95 % quantiles of the codes in each dimension.
        codes: codes of known data, for ``bounds="codes"``, for sampling and for Mahalanobis distances: ``(n, d)``
            posterior means, or the posteriors themselves.
        active: ``(d,)`` boolean tensor of the dimensions that the decoder uses; None takes the active units of the
            codes (variance of at least 0.01), or all dimensions without codes.
        chart: what the unit cube, in which optimizers search, is mapped to: ``box``, the box; ``cdf``, the space by
            the prior's distribution function; ``active``, the box's active dimensions, the others being 0.
    Raises:
        UsageError: if the arguments do not fit together.
    """

    def __init__(
        self,
        dim: int,
        bounds: float | int | Tensor | str = 3.0,
        codes: Tensor | Posterior | None = None,
        active: Tensor | None = None,
        chart: str = "box",
    ) -> None:
        if dim < 1:
            raise UsageError(f"expected a latent size >= 1, got {dim}", "Give the decoder's latent size.")
        if chart not in CHARTS:
            raise unknown_name("chart", chart, CHARTS)
        self.dim, self.chart = dim, chart
        self.prior: Prior = StandardNormal()
        known = None if codes is None or isinstance(codes, Tensor) else codes
        mean = codes if codes is None or isinstance(codes, Tensor) else codes.mean
        self.codes = None if mean is None else _check_codes(mean, dim)
        self._variance = None if known is None else torch.exp(known.log_var).cpu().double()
        self.bounds = _resolve_bounds(bounds, dim, self.codes)
        self.active = _resolve_active(active, dim, self.codes)
        self._clouds: dict[bool, tuple[Tensor, Tensor]] = {}

    def __repr__(self) -> str:
        return f"LatentSpace(dim={self.dim}, chart={self.chart!r}, active={int(self.active.sum())})"

    # --- sampling and charts ------------------------------------------------------------------------------------------

    def sample(self, n: int, kind: str = "prior", generator: Generator | None = None) -> Float[Tensor, "n latent"]:
        """Draw codes.

        Args:
            n: number of codes.
            kind: ``prior``; ``codes``, drawn among the known codes; or ``sobol``, a scrambled Sobol sequence over the
                chart's unit cube.
            generator: CPU generator; None is torch's global one.
        Returns:
            ``(n, d)`` double. Uniform points of a box are NOT prior draws: use Sobol with the cdf chart for those.
        Raises:
            UsageError: for an unknown kind, or ``"codes"`` without codes.
        """
        if kind == "prior":
            return self.prior.sample(torch.randn(n, self.dim, generator=generator, dtype=torch.float64))
        if kind == "codes":
            codes = self._require_codes("sampling codes")
            return codes[torch.randint(len(codes), (n,), generator=generator)]
        if kind == "sobol":
            seed = int(torch.randint(2**31, (1,), generator=generator))
            engine = torch.quasirandom.SobolEngine(self.unit_dim, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
            return self.from_unit(engine.draw(n, dtype=torch.float64))
        raise unknown_name("way to sample", kind, SAMPLINGS)

    @property
    def unit_dim(self) -> int:
        """Dimensions of the chart's unit cube: d, or the number of active ones."""
        return int(self.active.sum()) if self.chart == "active" else self.dim

    def to_unit(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch unit"]:
        """The chart coordinates of codes.

        Args:
            z: ``(..., d)``.
        Returns:
            ``(..., unit_dim)``; in [0, 1] for codes inside the box (with the cdf chart for all codes).
        """
        if self.chart == "cdf":
            share: Tensor = torch.special.ndtr(z)
            return share
        lower, upper = self._sides(z)
        unit = (z - lower) / (upper - lower)
        return unit[..., self.active.to(z.device)] if self.chart == "active" else unit

    def from_unit(self, u: Float[Tensor, "*batch unit"]) -> Float[Tensor, "*batch latent"]:
        """The codes at chart coordinates; dimensions that the chart leaves out are at the prior mean 0.

        Args:
            u: ``(..., unit_dim)`` in [0, 1]; the cdf chart clips to [0.001, 0.999].
        Returns:
            ``(..., d)``.
        """
        if self.chart == "cdf":
            z: Tensor = torch.special.ndtri(u.clamp(CDF_EDGE, 1 - CDF_EDGE))
            return z
        lower, upper = self._sides(u)
        if self.chart == "box":
            return _interpolate(lower, upper, u)
        active = self.active.to(u.device)
        z = u.new_zeros(*u.shape[:-1], self.dim)
        return z.masked_scatter(active.expand_as(z), _interpolate(lower[active], upper[active], u))

    def clip(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """The nearest codes inside the bounds.

        Args:
            z: ``(..., d)``.
        Returns:
            ``(..., d)``.
        """
        lower, upper = self._sides(z)
        return torch.minimum(torch.maximum(z, lower), upper)

    def at_bound(self, z: Float[Tensor, "*batch latent"]) -> Bool[Tensor, "*batch latent"]:
        """Which coordinates lie on a bound or beyond it, within a millionth of the box's side.

        Args:
            z: ``(..., d)``.
        Returns:
            ``(..., d)`` booleans.
        """
        lower, upper = self._sides(z)
        slack = BOUND_TOLERANCE * (upper - lower)
        return (z <= lower + slack) | (z >= upper - slack)

    # --- typicality ---------------------------------------------------------------------------------------------------

    def norm_percentile(self, z: Float[Tensor, "*batch latent"], *, active: bool = False) -> Float[Tensor, "*batch"]:
        """The share of prior draws that have a shorter norm (`lso.space.norm_percentile`).

        Args:
            z: ``(..., d)``.
            active: over the active dimensions only.
        Returns:
            ``(...)`` in [0, 1].
        """
        return self.prior.typicality(self._select(z, active))

    def log_typicality(self, z: Float[Tensor, "*batch latent"], *, active: bool = False) -> Float[Tensor, "*batch"]:
        """The log density of the norm under chi(d), in nats (`lso.space.log_typicality`).

        Args:
            z: ``(..., d)``.
            active: over the active dimensions only.
        Returns:
            ``(...)``.
        """
        return log_typicality(self._select(z, active))

    def mahalanobis(self, z: Float[Tensor, "*batch latent"], *, active: bool = False) -> Float[Tensor, "*batch"]:
        """The Mahalanobis distance from the known codes, in standard deviations (`lso.space.mahalanobis`).

        Args:
            z: ``(..., d)``.
            active: over the active dimensions only; over all, dead dimensions with their tiny code variance dominate.
        Returns:
            ``(...)``.
        Raises:
            UsageError: without at least two codes.
        """
        if active not in self._clouds:
            codes = self._select(self._require_codes("a Mahalanobis distance"), active)
            variance = None if self._variance is None else self._select(self._variance, active)
            self._clouds[active] = codes.mean(0), whitening_matrix(codes, variance)
        mean, whitening = self._clouds[active]
        codes = self._select(
            z, active
        ).double()  # in single precision z - mean loses digits where the mean is far from 0
        return mahalanobis(codes, mean.to(z.device), whitening.to(z.device)).to(z.dtype)

    def typical(self, z: Float[Tensor, "*batch latent"]) -> Bool[Tensor, "*batch"]:
        """Whether the norm over the active dimensions is at most the 99.9 % point of the chi distribution.

        A short norm is typical, too: the most probable codes lie nearer to the origin than draws from the prior.

        Args:
            z: ``(..., d)``.
        Returns:
            ``(...)`` booleans.
        """
        return self.norm_percentile(z, active=True) <= MAX_TYPICAL_PERCENTILE

    def _sides(self, like: Tensor) -> tuple[Tensor, Tensor]:
        box = self.bounds.to(like)
        return box[0], box[1]

    def _select(self, z: Tensor, active: bool) -> Tensor:
        return z[..., self.active.to(z.device)] if active else z

    def _require_codes(self, purpose: str) -> Tensor:
        if self.codes is None or len(self.codes) < 2:
            raise UsageError(f"{purpose} needs the codes of known data", "Pass codes=(n, d) posterior means, n >= 2.")
        return self.codes


def _interpolate(lower: Tensor, upper: Tensor, u: Tensor) -> Tensor:
    """The point at share u of the way from lower to upper."""
    z = lower + u * (upper - lower)
    # Rounding may lead a unit in the last place beyond a side. Detached, the correction leaves the gradient as it is.
    return z + (z.clamp(lower, upper) - z).detach()


def _check_codes(codes: Tensor, dim: int) -> Tensor:
    if codes.ndim != 2 or codes.shape[1] != dim or not bool(torch.isfinite(codes).all()):
        raise ShapeError(
            f"expected finite codes (n, {dim}), got {tuple(codes.shape)}", "Give one posterior mean in each row."
        )
    return codes.detach().cpu().double()


def _resolve_bounds(bounds: float | int | Tensor | str, dim: int, codes: Tensor | None) -> Tensor:
    if isinstance(bounds, str):
        if bounds != "codes" or codes is None:
            raise UsageError(
                f"bounds={bounds!r} without codes", 'Give a number, a 2 x d tensor, or bounds="codes" with codes.'
            )
        # Column by column: torch.quantile takes at most 16 million values at once.
        sides = [torch.quantile(column, torch.tensor(CODE_QUANTILES, dtype=codes.dtype)) for column in codes.T]
        lower, upper = torch.stack(sides, 1)
        widen = (0.5 * (MIN_WIDTH - (upper - lower))).clamp_min(0)
        return torch.stack([lower - widen, upper + widen])
    if isinstance(bounds, Tensor):
        box = bounds.detach().cpu().double()
    else:
        box = torch.tensor([-1.0, 1.0], dtype=torch.float64)[:, None].expand(2, dim).clone() * bounds
    if tuple(box.shape) != (2, dim) or not bool((box[0] < box[1]).all()):
        raise ShapeError(
            f"expected bounds (2, {dim}) with lower < upper, got {tuple(box.shape)}",
            "Row 0 holds the lower bounds, row 1 the upper ones.",
        )
    return box


def _resolve_active(active: Tensor | None, dim: int, codes: Tensor | None) -> Tensor:
    if active is None:
        if codes is None or len(codes) < 2:
            return torch.ones(dim, dtype=torch.bool)
        active = active_units.is_active(active_units.mean_variance(codes))
        if not bool(active.any()):  # a collapsed model has no active units; then no dimension is set apart
            return torch.ones(dim, dtype=torch.bool)
    if not isinstance(active, Tensor) or tuple(active.shape) != (dim,) or not bool(active.any()):
        got = tuple(active.shape) if isinstance(active, Tensor) else type(active).__name__
        raise ShapeError(
            f"expected a mask ({dim},) with an active dimension, got {got}",
            "Give a boolean tensor, True for active dimensions.",
        )
    return active.detach().cpu().bool()
