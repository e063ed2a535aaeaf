"""A step whose kernels are recorded once on a GPU and launched together from then on (a CUDA graph).

At batch 50 a step is some 700 small kernels: launching each by itself takes longer than computing them. A step reads
nothing but tensors (see `lso.vae.training.step`), so that it can be recorded; what comes in is copied to where the
recording reads it. One recording serves one shape of batch and one choice of halves, and the optimizers that it was
made with.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from lso.vae.checkpoint import first_line
from lso.vae.training.step import BOTH, Group, State, StepInputs, StepMetrics, StepNoise, step

WARM = 3  # steps of a kind that are taken one kernel at a time before it is recorded: libraries choose their ways there
ROOM = 16  # recordings at most; kinds beyond, as lengths of text, are stepped as they come
# Differences beyond which a recording is not the step: of what it reports, and of what it changes. Adam makes full
# steps also of gradients that are nothing but rounding, so that some weights may move the other way.
REPORTED, CHANGED = 0.01, 0.1

Run = Callable[[], StepMetrics]
Record = Callable[[Run], Run]


def cuda_graphs() -> Record:
    """What records on a GPU, for one set of optimizers.

    Recordings share their memory: nothing but what a step returns outlives it, and one is launched after another.

    Returns:
        Takes a function that launches the same kernels on the same addresses each time and reads nothing back; gives
        one that launches them again, and whose result is overwritten by the next call.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(run: Run) -> Run:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            found = run()

        def again() -> StepMetrics:
            graph.replay()
            return found

        return again

    return record


@dataclass(slots=True)
class _Recording:
    inputs: list[Tensor]
    run: Run


class Replayed:
    """`step`, recorded where that can be done and checked against itself; else `step`.

    A first replay is compared with the step taken one kernel at a time from the same weights: what it reports, and the
    change of weights, running statistics and moments. Where recording fails, or the two differ, steps go on as they
    were, and ``sentence`` says why.

    Args:
        state: what steps; after its optimizers were replaced, recordings are made anew.
        recorder: makes what records, anew for each set of optimizers; None never records, and is the choice for a CPU,
            which has no launches to save.
    """

    def __init__(self, state: State, recorder: Callable[[], Record] | None) -> None:
        self.state = state
        self.recorder = recorder
        self.sentence = ""
        self.forget()

    def forget(self) -> None:
        """Drop all recordings, as their addresses are no longer those of the weights or moments."""
        self._record = self.recorder() if self.recorder is not None else None
        self._optimizers = self.state.optimizers
        self._seen: dict[Any, int] = {}
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, x: Tensor, noise: StepNoise, knobs: StepInputs, groups: tuple[Group, ...] = BOTH) -> StepMetrics:
        """One step; see `step`.

        Args:
            x: as `step`.
            noise: as `step`.
            knobs: as `step`.
            groups: as `step`.
        Returns:
            As `step`, to be used before the next call, which may overwrite it.
        """
        if self.recorder is None:
            return step(self.state, x, noise, knobs, groups)
        if self.state.optimizers is not self._optimizers:
            self.forget()
        given = list(_tensors((x, noise, knobs)))
        kind = (groups, tuple((tuple(value.shape), value.dtype) for value in given))
        if kind in self._recordings:
            recording = self._recordings[kind]
            for inside, value in zip(recording.inputs, given, strict=True):
                inside.copy_(value)
            return recording.run()
        self._seen[kind] = self._seen.get(kind, 0) + 1
        if self._seen[kind] <= WARM or len(self._recordings) == ROOM:
            return step(self.state, x, noise, knobs, groups)
        return self._first(kind, x, noise, knobs, groups)

    def _first(
        self, kind: Any, x: Tensor, noise: StepNoise, knobs: StepInputs, groups: tuple[Group, ...]
    ) -> StepMetrics:
        """Record a kind of step; the step is taken as it always was, and the replay before it is taken back."""
        assert self._record is not None
        inside, before = copy.deepcopy((x, noise, knobs)), self._now()
        try:
            run = self._record(lambda: step(self.state, *inside, groups))
            replayed = StepMetrics(*(value.clone() for value in run()))
            why = ""
        except RuntimeError as error:
            why = first_line(error)
        after = self._now()
        self._put_back(before)
        info = step(self.state, x, noise, knobs, groups)
        if not why and not (_same_report(info, replayed) and _same_change(before, self._now(), after)):
            why = "a recorded step differed from the same step taken alone"
        if why:
            self.recorder, self.sentence = None, f"steps are not replayed: {why}"
        else:
            self._recordings[kind] = _Recording(list(_tensors(inside)), run)
        return info

    def _parts(self) -> dict[str, list[Tensor]]:
        """All that a step changes."""
        parts: dict[str, list[Tensor]] = {"weights": [], "statistics": [], "moments": [], "counters": []}
        parts["weights"] = [p.detach() for p in self.state.model.parameters()]
        for buffer in self.state.model.buffers():
            parts["statistics" if buffer.is_floating_point() else "counters"].append(buffer)
        for optimizer in self.state.optimizers.values():
            for moments in optimizer.state.values():
                for name, value in moments.items():
                    if isinstance(value, Tensor):
                        parts["counters" if name == "step" else "moments"].append(value)
        return parts

    def _now(self) -> dict[str, list[Tensor]]:
        return {name: [value.clone() for value in part] for name, part in self._parts().items()}

    @torch.no_grad()
    def _put_back(self, kept: dict[str, list[Tensor]]) -> None:
        for name, part in self._parts().items():
            for value, before in zip(part, kept[name], strict=True):
                value.copy_(before)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples, lists and dictionaries, in their order."""
    return (part for part in tree_leaves(value) if isinstance(part, Tensor))


def _same_report(one: StepMetrics, other: StepMetrics) -> bool:
    """Whether losses and norm are equal, each for itself, to rounding."""
    room = REPORTED * 1e-2 * one.loss.abs()  # of a KL near 0, say, beside the loss that it is part of
    return all(bool((a - b).abs() <= REPORTED * a.abs() + room) for a, b in zip(one, other, strict=True))


def _same_change(before: dict[str, list[Tensor]], *ends: dict[str, list[Tensor]]) -> bool:
    """Whether weights, statistics and moments, each taken together, went the same way."""
    for name in ("weights", "statistics", "moments"):
        one, other = (
            [(value - start).double().flatten() for value, start in zip(end[name], before[name], strict=True)]
            for end in ends
        )
        if one:
            a, b = torch.cat(one), torch.cat(other)
            if not bool((a - b).norm() <= CHANGED * (a.norm() + b.norm())):
                return False
    return True
