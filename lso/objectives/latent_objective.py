"""Objectives over codes: a frozen decoder, then a score; as a BoTorch test problem, and as an acquisition function."""

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
    """decoder then score: codes ``(..., d)`` to values ``(...)``, any leading axes, in the caller's dtype.

    Values are the user's own. `maximize` states their sense; a minimizer flips the sign on entry (`loss_and_grad`) and
    nowhere else. Towards BoTorch: ``forward`` gives the user's values, ``negate`` is ``maximize``, and
    ``evaluate_true`` is the un-negated problem: ``forward = -evaluate_true`` where ``negate``. It evaluates outside
    its bounds unless ``strict``.

    The decoder is no submodule: ``objective.to(...)`` moves the bounds and leaves the frozen weights alone.

    Args:
        decoder: what turns codes into data.
        score: decoded batch ``(n, *event)``, in the decoder's own dtype, to values ``(n,)``; with ``on="objects"`` a
            list of arrays or strings to a list of floats, None or NaN for an invalid one.
        space: bounds and typicality; None is +-3 around the prior.
        maximize: sense of the score; None takes ``score.maximize`` where it is stated, else False.
        on: whether the score takes tensors or objects.
        prior_weight: weight w of the prior in the value: w |z|^2 / 2, which is -w log p(z) up to a constant, is added
            to a loss and taken from a score to be maximized. It keeps codes where the decoder was trained.
        strict: raise outside the bounds, as BoTorch's own problems do.
        remember: ask a score on objects once for each distinct string, over all calls (see `counters`).
        decimals: of decoded values that tell one datum from another where distinct ones are counted; 0 for a score
            that rounds its pictures to black and white.
    Raises:
        UsageError: if the space has another size than the decoder, ``on`` is unknown, or a number is negative.
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
        # A score may be a network; kept out of the module's children so that `.to()` does not reach it.
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
        """The loss of decoding to given targets, to be minimized.

        ``loss="nll", prior_weight=1`` is -log p(x, z) up to a constant: the minimum is the maximum a posteriori code.
        ``lso optimize`` searches with these; the defaults here are the squared error alone, which serves any decoder.

        Codes ``(T, ..., d)`` give ``(T, ...)``: row t is compared with target t. With a single target any leading axes
        do. BoTorch's `gen_candidates_scipy` drops finished rows unless told ``use_parallel_mode=False``, which several
        targets need; `value_and_grad` keeps track of them.

        Args:
            decoder: what turns codes into data.
            targets: ``(T, *event)``, or one datum of the event's shape; bytes are divided by 255. Of sequences
                ``(T, length)`` token numbers: start, tokens, end, padding; or a corpus of them.
            loss: None is ``"sse"``, of sequences ``"nll"``, the only one there. ``"sse"`` (squared error summed over a
                datum), ``"bce"`` (cross-entropy in nats summed over a datum, from logits where the decoder gives them),
                ``"nll"`` (-log p(x|z) in nats under the decoder's own likelihood), or a function of two ``(n, *event)``
                batches that gives ``(n,)``.
            space: see the class.
            prior_weight: see the class.
            strict: see the class.
            context: what an autoregressive decoder is forced on (others have none): ``"target"``, as in training, which
                tells the decoder much of what it is to reproduce (of sequences the value is then the exact
                likelihood); ``"own"``, its own draw for each code (images alone); or ``"blank"``, an empty datum
                (sequences: each token unknown).
        Returns:
            The objective.
        Raises:
            ShapeError: if the targets do not have the shape of what the decoder makes.
            UsageError: for an unknown loss or context or one that is not of sequences, ``"bce"`` on a decoder whose
                output leaves [0, 1], or ``"nll"`` on one that gives no likelihood.
        """
        context = resolve_context(context, decoder)
        loss = default_loss(decoder) if loss is None else loss
        aims, score = as_target_batch(decoder, targets), resolve_loss(loss, decoder)
        self = cls(decoder, score, space=space, maximize=False, prior_weight=prior_weight, strict=strict)
        prior = f" + {prior_weight:g} x prior" if prior_weight else ""
        self.name = f"reconstruct/{loss if isinstance(loss, str) else self.name}{prior}"
        self._extract = extract_logits if loss in ("bce", "nll") else extract_decoded
        self.targets, self.context = aims, context
        return self

    @property
    def score(self) -> Callable[..., Any]:
        """The score or loss."""
        return self._score[0]

    @property
    def negate(self) -> bool:
        """BoTorch's word for a problem to be maximized; equal to `maximize`."""
        return self.maximize

    @property
    def is_minimization_problem(self) -> bool:
        """Whether smaller values of `forward` are better."""
        return not self.maximize

    @property
    def differentiable(self) -> bool:
        """Whether gradients with respect to codes are claimed to mean something."""
        return self.decoder.differentiable and self.on == "tensors"

    @property
    def counters(self) -> dict[str, int]:
        """Of a score on strings: calls, unique, duplicate and invalid ones (see `scores.MemoizedScore`); else empty."""
        return {} if self._memory is None else self._memory.counters

    @property
    def sign(self) -> float:
        """Factor that turns values into losses."""
        return -1.0 if self.maximize else 1.0

    # --- values -------------------------------------------------------------------------------------------------------

    def forward(self, X: Float[Tensor, "*batch latent"], noise: bool = True) -> Float[Tensor, "*batch"]:
        """Values of codes, the user's own.

        Args:
            X: ``(..., d)`` codes.
            noise: accepted as BoTorch does; there is none.
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
        """Values of the score with the part of the prior.

        Args:
            value: ``(...)`` of the score alone.
            X: ``(..., d)`` codes.
        Returns:
            ``(...)``.
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
        # Differences are formed in the caller's precision where that is the finer one.
        wide = torch.promote_types(z.dtype, decoded.dtype)
        return check_values(self.score(decoded.to(wide), targets.to(wide)), len(z))

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Any:
        """What the objective sees of codes: their decode, an autoregressive one's in the objective's context.

        Args:
            z: ``(..., d)``; with several targets ``(T, ..., d)``.
        Returns:
            As `Decoder.decode` for the flat batch; of sequences the texts, not forced on anything.
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
            noise: accepted as BoTorch does; there is none.
        Returns:
            ``(..., 1)``, in units of probability.
        """
        return (MAX_TYPICAL_PERCENTILE - self.space.norm_percentile(X, active=True)).unsqueeze(-1)

    def evaluate_slack_true(self, X: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch constraint"]:
        """`evaluate_slack`, which has no noise.

        Args:
            X: ``(..., d)`` codes.
        Returns:
            ``(..., 1)``.
        """
        return self.evaluate_slack(X)

    def is_feasible(self, X: Float[Tensor, "*batch latent"], noise: bool = True) -> Shaped[Tensor, "*batch"]:
        """Whether no slack is negative.

        Args:
            X: ``(..., d)`` codes.
            noise: accepted as BoTorch does; there is none.
        Returns:
            ``(...)`` truth values.
        """
        return (self.evaluate_slack(X) >= 0).all(-1)

    # --- other views --------------------------------------------------------------------------------------------------

    def take(self, indices: Tensor | Sequence[Any]) -> "LatentObjective":
        """The objective of some (target, start) pairs: ``(n, d) -> (n,)``, row i against the target of pair i.

        Args:
            indices: ``(n, 2)`` pairs (target, start), or ``(n,)`` targets.
        Returns:
            The objective of those pairs; itself where there is at most one target.
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
        """The q = 1 view for `optimize_acqf`: ``b x 1 x d -> b``, larger is better.

        Returns:
            The view.
        Raises:
            UsageError: if there are several targets, or no gradients.
        """
        if self.targets is not None and len(self.targets) > 1:
            raise UsageError(
                f"an acquisition function has one target, this objective {len(self.targets)}",
                "Choose one: objective.take([target]).acquisition()",
            )
        if not self.differentiable:
            raise not_differentiable_error(self.name, "it has no gradients", "optimize_acqf")

        return Acquisition(self)

    def loss_and_grad(self, z: Float[Tensor, "n latent"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n latent"]]:
        """What a minimizer needs: losses (values with the sign flipped where `maximize`) and their gradients.

        Works in chunks of the decoder's ``batch_size``, so that memory does not grow with n.

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
        """`loss_and_grad` between numpy arrays: what `fmin_l_bfgs_b_batched` takes (``pass_batch_indices=True``).

        Args:
            x: ``(n, d)`` codes.
            batch_indices: which targets the rows belong to, where the batch has shrunk.
        Returns:
            ``(n,)`` losses and ``(n, d)`` gradients, double.
        """
        part = self if batch_indices is None else self.take(batch_indices)
        loss, grad = part.loss_and_grad(torch.from_numpy(x).double())
        return loss.cpu().numpy(), grad.cpu().numpy()


class Acquisition(nn.Module):
    """An objective as a q = 1 acquisition function; `LatentObjective.acquisition` makes it.

    The objective is known everywhere, so pending points do not change it; they are kept because BoTorch sets them.

    Args:
        objective: of one target or none.
    """

    def __init__(self, objective: LatentObjective) -> None:
        super().__init__()
        self._objective = (objective,)  # out of reach of `.to()`
        self.model = None  # BoTorch's sequential mode logs its type
        self.X_pending: Tensor | None = None

    def set_X_pending(self, X_pending: Tensor | None = None) -> None:
        """Keep pending points."""
        self.X_pending = X_pending

    def forward(self, X: Float[Tensor, "... latent"]) -> Float[Tensor, "..."]:
        """Values, larger is better."""
        if X.ndim < 2 or X.shape[-2] != 1:
            raise ShapeError(
                f"expected codes (b, 1, d), got {tuple(X.shape)}", "The objective scores one point at a time: q=1."
            )
        X = X.unsqueeze(0) if X.ndim == 2 else X
        objective = self._objective[0]
        value: Tensor = objective(X.squeeze(-2))
        return -objective.sign * value
