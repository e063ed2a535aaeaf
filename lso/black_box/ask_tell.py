"""Black-box optimizers with ask and tell: a record of asks and tells around a pure function that proposes codes."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from types import UnionType
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lso.optimizers import BLACK_BOX_OPTIMIZERS, GRADIENT_OPTIMIZERS, merge_options
from lso.space import LatentSpace
from lso.vae.errors import ShapeError, UsageError, unknown_name
from lso.vae.utils.lazy import resolve
from lso.vae.utils.random import mix_seed
from lso.vae.utils.validation import require

# evaluated: a finite value. invalid: the decoded object has none. failed: the score raised, or returned something else
# than a number. timed_out: it took too long. lost: its process died. A feasibility model learns from the first four; a
# lost call says nothing about its point.
OUTCOMES = ("evaluated", "invalid", "failed", "timed_out", "lost")
# Types of options: the words for error messages, and whether a value has the type.
OPTION_TYPES: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, Integral) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, Real) and not isinstance(value, bool)),
    str: ("a name", lambda value: isinstance(value, str)),
    type(None): ("none", lambda value: value is None),
}
CALLABLE_TYPE: tuple[str, Callable[[Any], bool]] = ("a function", callable)
UNASKED = -1  # in place of the number of an ask, for a point that was told without having been asked for


@dataclass(frozen=True, eq=False, kw_only=True)
class History:
    """Everything that a proposal may depend on, apart from its seed.

    Args:
        space: the space to search.
        z: ``(m, d)`` double, the points told, in the order of telling.
        gain: ``(m,)`` double, larger is better whatever the sense of the user's values; NaN where infeasible.
        ask: ``(m,)`` number of the ask that proposed each point, -1 where it was told unasked.
        pending: ``(p, d)`` double, the points asked for and not yet told.
        number: number of this ask, counted from 0.
        pending_ask: ``(p,)`` number of the ask of each pending point.
    """

    space: LatentSpace
    z: Float[Tensor, "m latent"]
    gain: Float[Tensor, " m"]
    ask: Int[Tensor, " m"]
    pending: Float[Tensor, "p latent"]
    number: int
    pending_ask: Int[Tensor, " p"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    @cached_property
    def feasible(self) -> Bool[Tensor, " m"]:
        """Which points have a value."""
        return torch.isfinite(self.gain)

    @cached_property
    def typical(self) -> Bool[Tensor, " m"]:
        """Which points are typical of the prior."""
        return self.space.typical(self.z)

    def best(self, typical: bool = False) -> int | None:
        """The row of the best point, or of the best typical one: the first of equals, None without any."""
        allowed = self.feasible & self.typical if typical else self.feasible
        return int(torch.where(allowed, self.gain, -torch.inf).argmax()) if bool(allowed.any()) else None


# (history, n, seed) -> (n, d) codes inside the bounds: a pure function.
Proposal = Callable[[History, int, int], Float[Tensor, "n latent"]]


class BlackBox:
    """An optimizer of a score without gradients: ``z = opt.ask(4); opt.tell(z, y)``. `make_optimizer` makes it.

    Ask number k is a pure function of (seed, k, the tells in their order, the pending points): the record of asks and
    tells is the only state, models are fitted from scratch, and torch's global random state is neither read nor
    advanced.

    Args:
        name: name of the optimizer.
        space: the space to search.
        propose: the proposal function.
        seed: seed of its random draws.
        maximize: whether larger values are better.
        settings: the options of the method, for records.
    """

    def __init__(
        self,
        name: str,
        space: LatentSpace,
        propose: Proposal,
        *,
        seed: int = 0,
        maximize: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.space, self.seed, self.maximize = name, space, seed, maximize
        self.settings = dict(settings or {})
        self._propose = propose
        self._asks = 0
        self._observed = ObservationBuffer(space.dim)
        self._pending: dict[tuple[float, ...], list[int]] = {}  # code -> numbers of the asks that proposed it

    def __repr__(self) -> str:
        return f"BlackBox({self.name}, dim={self.space.dim}, told={len(self._observed)}, pending={len(self._pending)})"

    @property
    def asks(self) -> int:
        """The number of asks so far."""
        return self._asks

    @property
    def pending(self) -> Float[Tensor, "p latent"]:
        """``(p, d)`` points asked for and not yet told; a point asked for twice stands twice."""
        rows = [code for code, asks in self._pending.items() for _ in asks]
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, self.space.dim)

    def history(self) -> History:
        """The record that the next ask depends on."""
        return History(
            space=self.space,
            z=self._observed.z,
            gain=self._observed.gain,
            ask=self._observed.ask,
            pending=self.pending,
            number=self._asks,
            pending_ask=torch.tensor([ask for asks in self._pending.values() for ask in asks], dtype=torch.long),
        )

    def ask(self, n: int = 1) -> Float[Tensor, "n latent"]:
        """Propose n points to evaluate, ``(n, d)`` double on the CPU, inside the bounds; pending until told."""
        require(n >= 1 and n == int(n), "a whole number n >= 1 of points", n, "Ask for at least one point.")
        z = self._propose(self.history(), n, mix_seed(self.seed, "ask", self._asks))
        return self.register_ask(z)

    def register_ask(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, "n latent"]:
        """Register an ask whose points are given, such as one of a journal that is replayed."""
        codes = self._check_codes(z)
        for code in codes.tolist():
            self._pending.setdefault(tuple(code), []).append(self._asks)
        self._asks += 1
        return codes

    def tell(
        self,
        z: Float[Tensor, "*n latent"],
        y: Float[Tensor, "..."] | Sequence[float | None] | float | None,
        outcome: str | Sequence[str] = "evaluated",
    ) -> None:
        """Report the values of points: of those asked for, some or all in any order, or of others.

        Args:
            z: ``(n, d)`` or ``(d,)`` codes. A pending one is recognized by its exact coordinates.
            y: ``(n,)`` values in the user's sense; None and values that are not finite mark infeasible points.
            outcome: one of `OUTCOMES`, for all points or for each. Only ``evaluated`` points have their value; a
                ``lost`` point is no longer pending, and nothing is learned of it.
        """
        codes = self._check_codes(z)
        values = parse_values(y, len(codes))
        outcomes = [outcome] * len(codes) if isinstance(outcome, str) else list(outcome)
        if len(values) != len(codes) or len(outcomes) != len(codes):
            raise ShapeError(
                f"got {len(codes)} codes, {len(values)} values and {len(outcomes)} outcomes",
                "Give one value and one outcome for each code.",
            )
        for name in outcomes:
            if name not in OUTCOMES:
                raise unknown_name("outcome", name, OUTCOMES)
        for code, value, name in zip(codes, values, outcomes, strict=True):
            self._tell(code, value if name == "evaluated" else float("nan"), name)

    def _check_codes(self, z: Tensor) -> Tensor:
        if z.ndim not in (1, 2) or z.shape[-1] != self.space.dim:
            raise ShapeError(
                f"expected codes (n, {self.space.dim}), got {tuple(z.shape)}", "Give one code in each row."
            )
        if not bool(torch.isfinite(z).all()):
            raise ShapeError(
                f"expected finite codes, got {int((~torch.isfinite(z)).sum())} coordinates that are NaN or infinite",
                "Leave out the codes that are not finite.",
            )
        return z.detach().double().cpu().reshape(-1, self.space.dim)

    def _tell(self, code: Tensor, value: float, outcome: str) -> None:
        key = tuple(code.tolist())
        asks = self._pending.get(key, [UNASKED])
        ask = asks.pop(0)
        if not asks:
            self._pending.pop(key, None)
        if outcome != "lost":
            gain = value if self.maximize else -value
            self._observed.add(code, gain if abs(gain) < float("inf") else float("nan"), ask)

    def best(self, typical: bool = False) -> tuple[Float[Tensor, " latent"], float] | None:
        """Code and value, in the user's sense, of the best point told, or of the best typical one; None without any."""
        row = self.history().best(typical)
        if row is None:
            return None
        gain = float(self._observed.gain[row])
        return self._observed.z[row].clone(), gain if self.maximize else -gain


class ObservationBuffer:
    """The points told, in tensors whose capacity doubles as a list's does, so that an ask does not copy them."""

    def __init__(self, dim: int) -> None:
        self._size = 0
        self._z = torch.empty(0, dim, dtype=torch.float64)
        self._gain, self._ask = torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return self._size

    @property
    def z(self) -> Float[Tensor, "m latent"]:
        """``(m, d)`` codes."""
        return self._z[: self._size]

    @property
    def gain(self) -> Float[Tensor, " m"]:
        """``(m,)`` gains."""
        return self._gain[: self._size]

    @property
    def ask(self) -> Int[Tensor, " m"]:
        """``(m,)`` numbers of the asks that proposed the points."""
        return self._ask[: self._size]

    def add(self, code: Float[Tensor, " latent"], gain: float, ask: int) -> None:
        """Append a point."""
        if self._size == len(self._z):
            added = max(16, self._size)
            self._z = torch.cat([self._z, self._z.new_empty(added, self._z.shape[1])])
            self._gain = torch.cat([self._gain, self._gain.new_empty(added)])
            self._ask = torch.cat([self._ask, self._ask.new_empty(added)])
        self._z[self._size], self._gain[self._size], self._ask[self._size] = code, gain, ask
        self._size += 1


def make_optimizer(name: str, space: LatentSpace, *, seed: int = 0, maximize: bool = True, **options: Any) -> BlackBox:
    """Make a black-box optimizer by its name.

    Args:
        name: row of `lso.optimizers.BLACK_BOX_OPTIMIZERS`, optionally with options: ``"turbo:guard=none"``.
        space: the space to search.
        seed: seed of its random draws.
        maximize: whether larger values are better.
        **options: options of the method: the arguments of the function that the row names.
    Returns:
        The optimizer.
    Raises:
        UsageError: if the optimizer or an option is unknown, an option has the wrong type, or a package that the
            optimizer needs is missing.
    """
    name, options = merge_options(name, options)
    if name in GRADIENT_OPTIMIZERS:
        raise UsageError(f"{name} needs gradients", f"Search with lso.minimize(objective, z0, optimizer={name!r}).")
    if name not in BLACK_BOX_OPTIMIZERS:
        raise unknown_name("black-box optimizer", name, BLACK_BOX_OPTIMIZERS)
    build, known = _load_builder(name), option_names(name)
    if unknown := options.keys() - set(known):
        raise UsageError(
            f"{name} has no option {', '.join(sorted(unknown))}", f"It takes {', '.join(known) or 'none'}."
        )
    for key, value in options.items():
        _check_option(name, key, value)
    return BlackBox(name, space, build(space, **options), seed=seed, maximize=maximize, settings=options)


def option_names(name: str) -> list[str]:
    """The names of an optimizer's options."""
    return list(inspect.signature(_load_builder(name)).parameters)[1:]  # the first is the space


def _check_option(name: str, key: str, value: Any) -> None:
    """Raise where an option has the wrong type, as one from the command line may."""
    annotation = inspect.signature(_load_builder(name)).parameters[key].annotation
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if not any(OPTION_TYPES.get(kind, CALLABLE_TYPE)[1](value) for kind in kinds):
        words = " or ".join(OPTION_TYPES.get(kind, CALLABLE_TYPE)[0] for kind in kinds)
        raise UsageError(f"{name}: {key}={value!r} has the wrong type", f"{key} takes {words}.")


def _load_builder(name: str) -> Callable[..., Proposal]:
    build: Callable[..., Proposal] = resolve(BLACK_BOX_OPTIMIZERS[name].build)
    return build


def parse_values(y: Any, n: int) -> list[float]:
    """Values told for n codes (a number or None, or a tensor, an array or a list of them) as floats, NaN for None."""
    if hasattr(y, "tolist"):
        y = y.detach().reshape(-1).tolist() if isinstance(y, Tensor) else y.tolist()
    rows = [y] * n if y is None else [y] if isinstance(y, float | int | str) else list(y)
    try:
        return [float("nan") if value is None else float(value) for value in rows]
    except (TypeError, ValueError) as error:
        raise UsageError(f"a value is not a number: {error}", "Tell floats; None where there is no value.") from None
