"""One run of Adam that gives the results of gradient searches for many stopping thresholds: NE-VAE (2021), section 5.4.

A search with threshold t stops at the end of the first window of steps in which its loss decreased by t or less;
threshold 0 is the first window without a decrease. As the threshold only decides when to stop, one trajectory holds the
results for all thresholds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lso.objectives.latent_objective import LatentObjective
from lso.vae.utils.validation import require

POLL_EVERY = 10  # steps between two calls of the caller's `stop`


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdEnds:
    """The result of every search at each threshold: k thresholds in falling order, T targets, S starts.

    Args:
        thresholds: in falling order.
        window: steps in a window.
        steps: ``(k, T, S)`` steps at which the search stopped; the steps of the whole run where it did not.
        reached: ``(k, T, S)`` whether the search stopped by the threshold.
        value: ``(k, T, S)`` losses at these steps.
        z: ``(k, T, S, d)`` codes at these steps.
        together_steps: ``(k, S)`` the same for the sum of losses over targets, as one problem; 0 where not followed.
        together_reached: ``(k, S)`` whether that sum reached the threshold.
        losses: ``(w, T, S)`` at the start and at the end of each window; for a search that left the batch, its last.
        finished: whether the run ended by its own rule or ``max_steps``, rather than by the caller's ``stop``.
        state: where ``stop`` ended the run: codes, Adam's moments, steps done; empty otherwise.
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
    """Run Adam from every start to every target until each search and each sum over targets met the last threshold.

    Args:
        objective: to be minimized; its targets along the first axis.
        z0: ``(T, S, d)`` starts.
        thresholds: decreases of the loss over a window at which to stop, in any order.
        lr: learning rate of Adam.
        window: steps in a window; at the end of each the losses are copied to the host.
        max_steps: steps at most.
        as_one: also follow the sum over targets of each start; no search then leaves the batch before the sums have met
            their last threshold.
        stop: called with the steps done, every ten steps; true ends the run.
        begun: what an earlier call with the same arguments returned when ``stop`` ended it; this call continues from
            there, to the same results.
    Returns:
        The results, on the CPU.
    """
    falling = tuple(sorted(set(thresholds), reverse=True))
    require(bool(falling) and falling[-1] >= 0, "thresholds >= 0", thresholds, "For example 0.01, 0.005 and 0.")
    require(
        window >= 1 and max_steps >= window,
        "max_steps >= window >= 1",
        (max_steps, window),
        "100 and 50,000 are the defaults.",
    )
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
    """The objective of the searches that are still running, and their ``(T, S)`` mask; None while all are running."""
    running = ~record.reached[-1]
    if bool(running.all()) or not record.sums_met():
        return objective, None
    return objective.take(running.nonzero()), running


def _optimizer_state(step: int, z: Tensor, adam: torch.optim.Adam) -> dict[str, Tensor]:
    moments = {name: value.cpu() for name, value in adam.state[z].items()}
    return {"steps_done": torch.tensor(step), "codes": z.detach().cpu(), **moments}


def _restore(begun: ThresholdEnds, record: "_ThresholdRecord", z: Tensor, adam: torch.optim.Adam) -> int:
    """Restore codes, optimizer and record of an ended run, in place; return the steps done."""
    record.restore(begun)
    moments = dict(begun.state)
    step = int(moments.pop("steps_done"))
    with torch.no_grad():
        z.copy_(moments.pop("codes"))
    if moments:
        adam.load_state_dict({**adam.state_dict(), "state": {0: moments}})
    return step


class _ThresholdRecord:
    """Losses and codes at the ends of windows, and which thresholds they have met; everything on the CPU."""

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
        """Continue from the results of an ended run."""
        self.steps, self.reached, self.value = ends.steps.clone(), ends.reached.clone(), ends.value.clone()
        self.z, self.losses = ends.z.clone(), list(ends.losses)
        self.together, self.together_reached = ends.together_steps.clone(), ends.together_reached.clone()

    def sums_met(self) -> bool:
        """Whether every sum over targets has met the last threshold, or none is followed."""
        return not self.as_one or bool(self.together_reached.all())

    def observe(self, step: int, loss: Tensor, z: Tensor, running: Tensor | None = None) -> bool:
        """Record the end of a window; True where everything has met the last threshold.

        ``running`` is the ``(T, S)`` mask of the searches that the losses belong to; the others keep their last loss.
        """
        loss, z = loss.double().cpu(), z.double().cpu()
        if running is not None:
            loss = self.losses[-1].masked_scatter(running, loss)
        unmet = ~self.reached
        self.steps[unmet] = step
        self.value, self.z = torch.where(unmet, loss, self.value), torch.where(unmet[..., None], z, self.z)
        if self.as_one:
            self.together[~self.together_reached] = step
        if self.losses:
            # A loss that is not finite stays so, which counts as no decrease.
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
