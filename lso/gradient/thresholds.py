"""A gradient search run once, and read off at every stopping threshold: NE-VAE (2021), section 5.4.

The change of an image's loss is its decrease over a window of steps. A search with threshold t stops at the end of the
first window in which the loss decreased by t or less; threshold 0 is the first window without a decrease. As stopping
changes nothing before it, one trajectory holds the ends for all thresholds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lso.objectives.latent_objective import LatentObjective
from lso.vae.utils.validation import require

POLL_EVERY = 10  # steps between two looks at the caller's clock


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdEnds:
    """Where searches stand at each threshold; k thresholds, T targets, S starts.

    Args:
        thresholds: falling.
        window: steps in one.
        steps: ``(k, T, S)`` steps done; the last ones where the threshold was not reached.
        reached: ``(k, T, S)`` whether it was.
        value: ``(k, T, S)`` losses there.
        z: ``(k, T, S, d)`` codes there.
        together_steps: ``(k, S)`` the same for the sum over targets run as one problem; 0 where it is not followed.
        together_reached: ``(k, S)``.
        losses: ``(w, T, S)`` at the start and at the end of each window; of a search that left, its last one.
        finished: whether the run ended by its own rule or cap, not by the caller.
        state: where the run stood when the caller ended it: codes, Adam's moments, steps done; empty otherwise.
    """

    thresholds: tuple[float, ...]
    window: int
    steps: Int[Tensor, "k target start"]
    reached: Bool[Tensor, "k target start"]
    value: Float[Tensor, "k target start"]
    z: Float[Tensor, "k target start latent"]
    together_steps: Int[Tensor, "k start"]
    together_reached: Bool[Tensor, "k start"]
    losses: Float[Tensor, "w target start"]
    finished: bool = True
    state: Mapping[str, Tensor] = field(default_factory=dict)


def search_to_thresholds(
    objective: LatentObjective,
    z0: Float[Tensor, "target start latent"],
    thresholds: Sequence[float],
    *,
    lr: float = 0.01,
    window: int = 100,
    max_steps: int = 50_000,
    as_one: bool = True,
    stop: Callable[[int], bool] | None = None,
    begun: ThresholdEnds | None = None,
) -> ThresholdEnds:
    """Adam from every start to every target, until each search and each sum over targets met the last threshold.

    A search that met it leaves the batch, but not before the sums have met theirs, where they are followed.

    Args:
        objective: to be minimized; its targets along the first axis.
        z0: ``(T, S, d)`` starts.
        thresholds: decreases of the loss over a window at which to stop; taken in falling order.
        lr: of Adam.
        window: steps between two looks, each a host read.
        max_steps: steps at most.
        as_one: also follow the sum over targets of each start, which takes all of them as long as the slowest one.
        stop: called with the steps done, every ten; true ends the run.
        begun: what an earlier call with the same arguments returned when it was ended; this one goes on from there,
            to the same ends.
    Returns:
        The ends, on the CPU.
    Raises:
        UsageError: if a value is out of range.
    """
    falling = tuple(sorted(set(thresholds), reverse=True))
    require(bool(falling) and falling[-1] >= 0, "thresholds >= 0", thresholds, "For example 0.01,0.005,0.")
    require(window >= 1 and max_steps >= window, "max_steps >= window >= 1", (max_steps, window), "100 is the window.")
    require(0 < lr < float("inf"), "a finite lr > 0", lr, "0.01 is the default.")
    if begun is not None and begun.finished:
        return begun
    z = z0.detach().to(objective.decoder.device).clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=lr)
    record = _ThresholdRecord(falling, z0, as_one)
    step = 0 if begun is None else _restore(begun, record, z, adam)
    part, running = _running_part(objective, record)
    while True:
        adam.zero_grad()
        loss = part(z if running is None else z[running])
        if step == window * len(record.losses):
            done = record.observe(step, loss.detach(), z.detach(), running)
            if done or step + window > max_steps:
                return record.ends(window)
            part, running = _running_part(objective, record)
            loss = loss if running is None else part(z[running])
        if step % POLL_EVERY == 0 and stop is not None and stop(step):
            return record.ends(window, _optimizer_state(step, z, adam))
        # Codes whose searches have stopped drift on by Adam's momentum; nothing reads them any more.
        torch.autograd.backward(objective.sign * loss.sum(), inputs=[z])
        adam.step()
        step += 1


def _running_part(objective: LatentObjective, record: "_ThresholdRecord") -> tuple[LatentObjective, Tensor | None]:
    """The objective of the searches that go on, and ``(T, S)`` which those are; None while all do."""
    running = ~record.reached[-1]
    if bool(running.all()) or not record.sums_met():
        return objective, None
    return objective.take(running.nonzero()), running


def _optimizer_state(step: int, z: Tensor, adam: torch.optim.Adam) -> dict[str, Tensor]:
    moments = {name: value.cpu() for name, value in adam.state[z].items()}
    return {"steps_done": torch.tensor(step), "codes": z.detach().cpu(), **moments}


def _restore(begun: ThresholdEnds, record: "_ThresholdRecord", z: Tensor, adam: torch.optim.Adam) -> int:
    """Put back what `_optimizer_state` and the record hold; the steps done."""
    record.restore(begun)
    moments = dict(begun.state)
    step = int(moments.pop("steps_done"))
    with torch.no_grad():
        z.copy_(moments.pop("codes"))
    if moments:
        adam.load_state_dict({**adam.state_dict(), "state": {0: moments}})
    return step


class _ThresholdRecord:
    """What was seen at the ends of windows; everything on the CPU."""

    def __init__(self, thresholds: tuple[float, ...], z0: Tensor, as_one: bool = True) -> None:
        size = (len(thresholds), *z0.shape[:2])
        self.thresholds, self.as_one = thresholds, as_one
        self.limits = torch.tensor(thresholds, dtype=torch.float64)[:, None, None]
        self.steps, self.reached = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.bool)
        self.value, self.z = torch.zeros(size, dtype=torch.float64), torch.zeros(*size, z0.shape[-1]).double()
        self.together = torch.zeros(len(thresholds), z0.shape[1], dtype=torch.int64)
        self.together_reached = torch.zeros(len(thresholds), z0.shape[1], dtype=torch.bool)
        self.losses: list[Tensor] = []

    def restore(self, ends: ThresholdEnds) -> None:
        """Go on from ends."""
        self.steps, self.reached, self.value = ends.steps.clone(), ends.reached.clone(), ends.value.clone()
        self.z, self.losses = ends.z.clone(), list(ends.losses)
        self.together, self.together_reached = ends.together_steps.clone(), ends.together_reached.clone()

    def sums_met(self) -> bool:
        """Whether no sum over targets is followed any more."""
        return not self.as_one or bool(self.together_reached.all())

    def observe(self, step: int, loss: Tensor, z: Tensor, of: Tensor | None = None) -> bool:
        """Take in a window's end; whether everything has met the last threshold.

        The losses may be of some searches alone, ``(T, S)`` which: the others stand where they were.
        """
        loss, z = loss.double().cpu(), z.double().cpu()
        if of is not None:
            loss = self.losses[-1].masked_scatter(of, loss)
        running, together = ~self.reached, ~self.together_reached
        self.steps[running] = step
        self.value, self.z = (
            torch.where(running, loss, self.value),
            torch.where(running[..., None], z, self.z),
        )
        if self.as_one:
            self.together[together] = step
        if self.losses:
            # A loss that is not finite can only stand still from here on.
            decrease = torch.nan_to_num(self.losses[-1] - loss, nan=0.0)
            self.reached |= decrease <= self.limits
            if self.as_one:
                self.together_reached |= decrease.sum(0) <= self.limits[:, 0]
        self.losses.append(loss)
        return bool(self.reached.all()) and self.sums_met()

    def ends(self, window: int, state: Mapping[str, Tensor] | None = None) -> ThresholdEnds:
        return ThresholdEnds(
            thresholds=self.thresholds,
            window=window,
            steps=self.steps,
            reached=self.reached,
            value=self.value,
            z=self.z,
            together_steps=self.together,
            together_reached=self.together_reached,
            losses=torch.stack(self.losses),
            finished=state is None,
            state=state or {},
        )
