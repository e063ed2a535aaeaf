"""Objectives over codes, a score of what a frozen decoder makes of them; also as BoTorch problem and acquisition."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lso.decoders.adapters import extract_decoded, extract_logits
from lso.objectives.function_names import display_name
from lso.objectives.losses import default_loss, resolve_loss
from lso.objectives.score_calls import call_score, copy_datum
from lso.objectives.scores import MemoizedScore, as_objects, check_values, not_differentiable_error, score_objects
from lso.objectives.targets import CONTEXTS as CONTEXTS
from lso.objectives.targets import align_targets, as_target_batch, blank_context, resolve_context
from lso.space import MAX_TYPICAL_PERCENTILE, LatentSpace
from lso.vae.data.corpus import Corpus
from lso.vae.errors import ShapeError, UsageError, unknown_name
from lso.vae.utils.validation import require

if TYPE_CHECKING:
    import numpy

    from lso.decoders.decoder import Decoder


class LatentObjective(nn.Module):
    """The score of decoded codes: ``(..., d)`` to values ``(...)``, any leading axes, in the caller's dtype.

    Values are the user's own. `maximize` says whether larger is better; the sign is flipped for minimizers in
    `loss_and_grad` and nowhere else. As a BoTorch test problem: ``forward`` gives the user's values, ``negate`` is
    ``maximize``, and ``evaluate_true`` is the un-negated problem: ``forward = -evaluate_true`` where ``negate``. It
    evaluates outside its bounds unless ``strict``.

    The decoder is not a submodule: ``objective.to(...)`` moves the bounds and leaves the frozen weights where they are.

    Args:
        decoder: the frozen decoder.
        score: decoded batch ``(n, *event)``, in the decoder's own dtype, to values ``(n,)``; with ``on="objects"`` a
            list of arrays or strings to a list of floats, None or NaN for an invalid one.
        space: bounds and typicality; None is the box of +-3 prior standard deviations.
        maximize: whether larger values are better; None takes ``score.maximize`` where the score has it, else False.
        on: whether the score takes ``"tensors"`` or ``"objects"``.
        prior_weight: weight w of the prior in the value: w |z|^2 / 2, which is -w log p(z) up to a constant, is added
            to a loss and subtracted from a score to be maximized. It keeps codes where the decoder was trained.
        strict: raise outside the bounds, as BoTorch's own problems do.
        remember: call a score on objects once for each distinct string, over all calls (see `counters`).
        decimals: to which decoded values are rounded where distinct data are counted; 0 suits a score that rounds
            images to black and white.
    Raises:
        UsageError: if the space and the decoder have different latent sizes, ``on`` is unknown, or a number is
            negative.
    """

    num_objectives = 1
    num_constraints = 1
    noise_std: float | None = None
    constraint_noise_std: float | None = None
    bounds: Tensor

    def __init__(
        self,
        decoder: "Decoder",
        score: Callable[..., Any],
        *,
        space: LatentSpace | None = None,
        maximize: bool | None = None,
        on: str = "tensors",
        prior_weight: float = 0.0,
        strict: bool = False,
        remember: bool = True,
        decimals: int = 4,
    ) -> None:
        super().__init__()
        if on not in ("tensors", "objects"):
            raise unknown_name("on", on, ("tensors", "objects"))
        self.dim = decoder.latent_dim
        self.space = space or LatentSpace(self.dim)
        if self.space.dim != self.dim:
            raise UsageError(
                f"the space has {self.space.dim} dimensions, the decoder {self.dim}",
                f"Use lso.LatentSpace({self.dim}).",
            )
        require(0 <= prior_weight < math.inf, "a prior weight >= 0", prior_weight, "0 leaves the prior out.")
        require(decimals >= 0, "decimals >= 0", decimals, "0 rounds decoded values to whole numbers.")
        self.decoder, self.on, self.prior_weight = decoder, on, prior_weight
        self.strict, self.decimals = strict, decimals
        # A score may be a network. In a tuple it is not registered as a submodule, so that `.to()` does not move it.
        self._score = (score,)
        self._memory = MemoizedScore(score) if on == "objects" and remember else None
        self.maximize = bool(getattr(score, "maximize", False)) if maximize is None else maximize
        self.name = display_name(score)
        self.continuous_inds = list(range(self.dim))
        self.discrete_inds: list[int] = []
        self.categorical_inds: list[int] = []
        self.targets: Tensor | None = None
        self.context = "own" if decoder.autoregressive and decoder.vocabulary is None else "none"
        self._extract: Callable[[Any], Tensor | list[Any]] = extract_decoded
        self.register_buffer("bounds", self.space.bounds.clone())

    def __repr__(self) -> str:
        sense, targets = "maximize" if self.maximize else "minimize", self.targets
        count = "" if targets is None else f", {len(targets)} target{'s' * (len(targets) != 1)}"
        return f"LatentObjective({self.name}, {sense}, dim={self.dim}{count})"

    @classmethod
    def reconstruct(
        cls,
        decoder: "Decoder",
        targets: Shaped[Tensor, "target ..."] | Corpus,
        loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        space: LatentSpace | None = None,
        prior_weight: float = 0.0,
        strict: bool = False,
        context: str = "target",
    ) -> "LatentObjective":
        """The reconstruction loss of codes against given targets, to be minimized.

        ``loss="nll", prior_weight=1`` is -log p(x, z) up to a constant: the minimum is the maximum a posteriori code.
        ``lso optimize`` searches with these; the defaults here are the squared error alone, which serves any decoder.

        Codes ``(T, ..., d)`` give ``(T, ...)``: row t is compared with target t. A single target allows any leading
        axes. BoTorch's `gen_candidates_scipy` drops finished rows from the batch, which mixes up several targets unless
        it is called with ``use_parallel_mode=False``; `value_and_grad` keeps track of the rows.

        Args:
            decoder: the frozen decoder.
            targets: ``(T, *event)``, or one datum of the event's shape; bytes are divided by 255. For sequences
                ``(T, length)`` token numbers: start, tokens, end, padding; or a corpus of them.
            loss: ``"sse"`` (squared error summed over a datum), ``"bce"`` (cross-entropy in nats summed over a datum,
                from logits where the decoder gives them), ``"nll"`` (-log p(x|z) in nats under the decoder's own
                likelihood), or a function of two ``(n, *event)`` batches that gives ``(n,)``. None is ``"sse"``, for
                sequences ``"nll"``, the only loss that they have.
            space: see the class.
            prior_weight: see the class.
            strict: see the class.
            context: what an autoregressive decoder is teacher-forced on (others have no context): ``"target"``, as in
                training, which tells the decoder much of what it should reproduce (for sequences the value is then the
                exact likelihood); ``"own"``, its own sample for each code (images only); or ``"blank"``, an empty
                datum (for sequences: every token unknown).
        Returns:
            The objective.
        Raises:
            ShapeError: if the targets do not have the shape of what the decoder makes.
            UsageError: for a loss or context that is unknown or does not suit the decoder: ``"bce"`` where the output
                leaves [0, 1], ``"nll"`` where there is no likelihood, and all but ``"nll"`` on sequences.
        """
        context = resolve_context(context, decoder)
        loss = default_loss(decoder) if loss is None else loss
        target_data, score = as_target_batch(decoder, targets), resolve_loss(loss, decoder)
        self = cls(decoder, score, space=space, maximize=False, prior_weight=prior_weight, strict=strict)
        prior = f" + {prior_weight:g} x prior" if prior_weight else ""
        self.name = f"reconstruct/{loss if isinstance(loss, str) else self.name}{prior}"
        self._extract = extract_logits if loss in ("bce", "nll") else extract_decoded
        self.targets, self.context = target_data, context
        return self

    @property
    def score(self) -> Callable[..., Any]:
        """The score or loss."""
        return self._score[0]

    @property
    def negate(self) -> bool:
        """The same as `maximize`, under BoTorch's name."""
        return self.maximize

    @property
    def is_minimization_problem(self) -> bool:
        """Whether smaller values of `forward` are better."""
        return not self.maximize

    @property
    def differentiable(self) -> bool:
        """Whether gradients with respect to codes exist, as the decoder declares, for a score on tensors."""
        return self.decoder.differentiable and self.on == "tensors"

    @property
    def counters(self) -> dict[str, int]:
        """Counts of scored strings: calls, unique, duplicate, invalid (see `MemoizedScore`); empty for other scores."""
        return {} if self._memory is None else self._memory.counters

    @property
    def sign(self) -> float:
        """Factor that turns values into losses to be minimized: -1 for a score to be maximized, else 1."""
        return -1.0 if self.maximize else 1.0

    # --- values -------------------------------------------------------------------------------------------------------

    def forward(self, X: Float[Tensor, "*batch latent"], noise: bool = True) -> Float[Tensor, "*batch"]:
        """Values of codes, in the sense of the user's score.

        Args:
            X: ``(..., d)`` codes.
            noise: ignored; BoTorch's test problems take it.
        Returns:
            ``(...)``; NaN where an object is invalid.
        Raises:
            ShapeError: if X does not fit, or the score does not give one value for each datum.
            UsageError: if the score gives no tensor, or X is outside the bounds of a strict objective.
        """
        if X.ndim == 0 or X.shape[-1] != self.dim:
            raise ShapeError(
                f"expected codes (..., {self.dim}), got {tuple(X.shape)}", "The last axis is the latent one."
            )
        if self.strict and not bool(((self.bounds[0].to(X) <= X) & (self.bounds[1].to(X) >= X)).all()):
            raise UsageError(
                "Expected `X` to be within the bounds of the test problem.",
                "Clip it, or make the objective with strict=False.",
            )
        value = self._evaluate(X.reshape(-1, self.dim), X.shape[:-1])
        return self.with_prior(value.to(device=X.device, dtype=X.dtype).reshape(X.shape[:-1]), X)

    def with_prior(self, value: Float[Tensor, "*batch"], X: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Add the prior's term to values of the score: + w |z|^2 / 2 to a loss, - w |z|^2 / 2 to a score to maximize.

        Args:
            value: ``(...)`` values of the score alone.
            X: ``(..., d)`` codes.
        Returns:
            ``(...)``; the values themselves where w, `prior_weight`, is 0.
        """
        return value + self.sign * self.prior_weight * 0.5 * (X**2).sum(-1) if self.prior_weight else value

    def evaluate_true(self, X: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Values of the un-negated problem, in BoTorch's sense.

        Args:
            X: ``(..., d)`` codes.
        Returns:
            ``(...)``; minus `forward` where `negate`, else `forward`.
        """
        value: Tensor = self(X)
        return self.sign * value

    def _evaluate(self, z: Tensor, lead: torch.Size) -> Tensor:
        decoded = self.decoder.decode(z, self._extract, self._context(lead))
        if self.on == "objects":
            objects = as_objects(decoded)
            return score_objects(self.score, objects) if self._memory is None else self._memory(objects)
        if not isinstance(decoded, Tensor):
            raise UsageError(
                "the decoder gives objects, the score expects tensors", 'Make the objective with on="objects".'
            )
        if self.targets is None:
            return check_values(
                call_score(self.score, decoded if decoded.requires_grad else copy_datum(decoded)), len(z)
            )
        targets = align_targets(self.targets, lead, self.dim).to(device=decoded.device)
        if not targets.is_floating_point():
            return check_values(self.score(decoded, targets), len(z))
        # The loss is computed in the caller's precision where that is higher than the decoder's.
        dtype = torch.promote_types(z.dtype, decoded.dtype)
        return check_values(self.score(decoded.to(dtype), targets.to(dtype)), len(z))

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Any:
        """Decode codes as the objective does: an autoregressive decoder of images in the objective's context.

        Args:
            z: ``(..., d)``; with several targets ``(T, ..., d)``.
        Returns:
            As `Decoder.decode` for the flat batch; for sequences the generated texts, without teacher forcing.
        """
        context = self._context(z.shape[:-1]) if self.decoder.vocabulary is None else None
        return self.decoder.decode(z.reshape(-1, self.dim), context=context)

    def _context(self, lead: torch.Size) -> Tensor | None:
        if self.targets is None or self.context not in ("target", "blank"):
            return None
        targets = align_targets(self.targets, lead, self.dim)
        return targets if self.context == "target" else blank_context(targets)

    # --- constraints --------------------------------------------------------------------------------------------------

    def evaluate_slack(
        self, X: Float[Tensor, "*batch latent"], noise: bool = True
    ) -> Float[Tensor, "*batch constraint"]:
        """Slack of the one constraint, typicality: nonnegative where `LatentSpace.typical` holds.

        Args:
            X: ``(..., d)`` codes.
            noise: ignored; BoTorch's test problems take it.
        Returns:
            ``(..., 1)``: 0.999 minus the percentile of the norm over the active dimensions.
        """
        return (MAX_TYPICAL_PERCENTILE - self.space.norm_percentile(X, active=True)).unsqueeze(-1)

    def evaluate_slack_true(self, X: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch constraint"]:
        """The same as `evaluate_slack`, since there is no noise.

        Args:
            X: ``(..., d)`` codes.
        Returns:
            ``(..., 1)``.
        """
        return self.evaluate_slack(X)

    def is_feasible(self, X: Float[Tensor, "*batch latent"], noise: bool = True) -> Shaped[Tensor, "*batch"]:
        """Whether codes are typical of the prior, so that no slack is negative.

        Args:
            X: ``(..., d)`` codes.
            noise: ignored; BoTorch's test problems take it.
        Returns:
            ``(...)`` booleans.
        """
        return (self.evaluate_slack(X) >= 0).all(-1)

    # --- other views --------------------------------------------------------------------------------------------------

    def take(self, indices: Tensor | Sequence[Any]) -> "LatentObjective":
        """The objective restricted to some (target, start) pairs: ``(n, d) -> (n,)``, row i against pair i's target.

        Args:
            indices: ``(n, 2)`` pairs (target, start), or ``(n,)`` targets.
        Returns:
            The objective of those pairs; the objective itself where it has at most one target.
        Raises:
            ShapeError: if the indices have another shape.
        """
        if self.targets is None or len(self.targets) == 1:
            return self
        index = torch.as_tensor(indices, device=self.targets.device)
        if index.ndim > 2 or index.ndim == 0 or (index.ndim == 2 and index.shape[1] != 2):
            raise ShapeError(
                f"expected pairs (n, 2) or targets (n,), got {tuple(index.shape)}", "Give (target, start) rows."
            )
        rows = index[:, 0] if index.ndim == 2 else index
        part = LatentObjective(
            self.decoder,
            self.score,
            space=self.space,
            maximize=self.maximize,
            on=self.on,
            prior_weight=self.prior_weight,
            strict=self.strict,
            decimals=self.decimals,
        )
        part.name, part._extract, part.targets = self.name, self._extract, self.targets[rows]
        part.context, part._memory = self.context, self._memory
        return part

    def acquisition(self) -> "Acquisition":
        """The objective as an acquisition function for BoTorch's `optimize_acqf`, one point at a time.

        Returns:
            ``(b, 1, d) -> (b,)``, larger is better.
        Raises:
            UsageError: if there are several targets, or no gradients.
        """
        if self.targets is not None and len(self.targets) > 1:
            raise UsageError(
                f"an acquisition function needs one target, and this objective has {len(self.targets)}",
                "Choose one: objective.take([target]).acquisition()",
            )
        if not self.differentiable:
            raise not_differentiable_error(self.name, "it has no gradients", "optimize_acqf")

        return Acquisition(self)

    def loss_and_grad(self, z: Float[Tensor, "n latent"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n latent"]]:
        """Losses (values, with the sign flipped where `maximize`) and their gradients, for minimizers.

        Computed in chunks of the decoder's ``batch_size``, so that memory does not grow with n.

        Args:
            z: ``(n, d)`` codes.
        Returns:
            ``(n,)`` losses and ``(n, d)`` gradients, detached.
        Raises:
            UsageError: if the values do not depend on z in the graph.
        """
        size = self.decoder.batch_size or max(len(z), 1)
        if len(z) > size:
            parts = [self.take(rows).loss_and_grad(z[rows]) for rows in torch.split(torch.arange(len(z)), size)]
            return torch.cat([loss for loss, _ in parts]), torch.cat([grad for _, grad in parts])
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            loss = self.sign * self(z)
            if not loss.requires_grad:
                raise not_differentiable_error(self.name, "its values carry no gradient back to z")
            (grad,) = torch.autograd.grad(loss.sum(), z)
        return loss.detach(), grad

    def value_and_grad(
        self, x: "numpy.ndarray[Any, Any]", batch_indices: list[int] | None = None
    ) -> "tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]]":
        """`loss_and_grad` on numpy arrays, for BoTorch's `fmin_l_bfgs_b_batched` with ``pass_batch_indices=True``.

        Args:
            x: ``(n, d)`` codes.
            batch_indices: the target of each row, where the minimizer has dropped finished rows; None is all targets.
        Returns:
            ``(n,)`` losses and ``(n, d)`` gradients, double.
        """
        part = self if batch_indices is None else self.take(batch_indices)
        loss, grad = part.loss_and_grad(torch.from_numpy(x).double())
        return loss.cpu().numpy(), grad.cpu().numpy()


class Acquisition(nn.Module):
    """An objective with at most one target as a q = 1 acquisition function; made by `LatentObjective.acquisition`."""

    # The objective is known everywhere, so pending points do not change it; they are kept because BoTorch sets them.

    def __init__(self, objective: LatentObjective) -> None:
        super().__init__()
        self._objective = (objective,)  # in a tuple: not a submodule, so `.to()` does not move it
        self.model = None  # BoTorch's sequential mode logs the type of `model`
        self.X_pending: Tensor | None = None

    def set_X_pending(self, X_pending: Tensor | None = None) -> None:
        """Store pending points, as BoTorch's acquisition functions do."""
        self.X_pending = X_pending

    def forward(self, X: Float[Tensor, "... latent"]) -> Float[Tensor, "..."]:
        """Values ``(b,)`` of codes ``(b, 1, d)``; larger is better."""
        if X.ndim < 2 or X.shape[-2] != 1:
            raise ShapeError(
                f"expected codes (b, 1, d), got {tuple(X.shape)}", "The objective scores one point at a time: q=1."
            )
        X = X.unsqueeze(0) if X.ndim == 2 else X
        objective = self._objective[0]
        value: Tensor = objective(X.squeeze(-2))
        return -objective.sign * value
