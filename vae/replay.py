"""A step whose kernels are recorded once on a GPU and launched together from then on (a CUDA graph).

At batch 50 a step is some 700 small kernels: launching each by itself takes longer than computing them. A step reads
nothing but tensors (see `lso.vae.step`), so that it can be recorded; what comes in is copied to where the recording
reads it. One recording serves one shape of batch and one choice of halves, and the optimizers that it was made with.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lso.vae.step import BOTH, Group, Info, Knobs, Noise, State, step

WARM = 3  # steps of a kind that are taken one kernel at a time before it is recorded: libraries choose their ways there
ROOM = 16  # recordings at most, each with its own memory; kinds beyond, as lengths of text, are stepped as they come
# Differences beyond which a recording is not the step. Losses differ by rounding alone; Adam makes full steps also of
# gradients that are nothing but rounding, so that some weights may move the other way.
ROUNDING, SIGNS = 1e-3, 0.1

Run = Callable[[], Info]
Record = Callable[[Run], Run]


def cuda_graphs() -> Record:
    """What records on a GPU.

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

        def again() -> Info:
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

    A first replay is compared with the step taken one kernel at a time from the same weights. Where recording fails, or
    the two differ, steps go on as they were, and ``sentence`` says why.

    Args:
        state: what steps; after its optimizers were replaced, recordings are made anew.
        record: what records; None never does, and is the choice for a CPU, which has no launches to save.
    """

    def __init__(self, state: State, record: Record | None) -> None:
        self.state = state
        self.record = record
        self.sentence = ""
        self._optimizers = state.optimizers
        self._seen: dict[Any, int] = {}
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, x: Tensor, noise: Noise, knobs: Knobs, groups: tuple[Group, ...] = BOTH) -> Info:
        """One step; see `step`.

        Args:
            x: as `step`.
            noise: as `step`.
            knobs: as `step`.
            groups: as `step`.
        Returns:
            As `step`, to be used before the next call, which may overwrite it.
        """
        if self.record is None:
            return step(self.state, x, noise, knobs, groups)
        if self.state.optimizers is not self._optimizers:
            self._optimizers, self._seen, self._recordings = self.state.optimizers, {}, {}
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

    def _first(self, kind: Any, x: Tensor, noise: Noise, knobs: Knobs, groups: tuple[Group, ...]) -> Info:
        """Record a kind of step; the step is taken as it always was, and the replay before it is taken back."""
        assert self.record is not None
        inside = copy.deepcopy((x, noise, knobs))
        kept = [value.clone() for value in self._moved()]
        try:
            run = self.record(lambda: step(self.state, *inside, groups))
            replayed = Info(*(value.clone() for value in run()))
        except RuntimeError as error:
            return self._give_up(str(error).splitlines()[0], kept, x, noise, knobs, groups)
        after = [value.clone() for value in self._moved()]
        self._put_back(kept)
        info = step(self.state, x, noise, knobs, groups)
        one, other = ([a - b for a, b in zip(values, kept, strict=True)] for values in (self._moved(), after))
        if not (_alike(list(info), list(replayed), ROUNDING) and _alike(one, other, SIGNS)):
            self.record = None
            self.sentence = "steps are not replayed: a recorded step differed from the same step taken alone"
        else:
            self._recordings[kind] = _Recording(list(_tensors(inside)), run)
        return info

    def _give_up(
        self, why: str, kept: list[Tensor], x: Tensor, noise: Noise, knobs: Knobs, groups: tuple[Group, ...]
    ) -> Info:
        self.record = None
        self.sentence = f"steps are not replayed: {why}"
        self._put_back(kept)
        return step(self.state, x, noise, knobs, groups)

    def _moved(self) -> Iterator[Tensor]:
        """All that a step changes: weights, running statistics, moments."""
        yield from self.state.model.state_dict().values()
        for optimizer in self.state.optimizers.values():
            yield from _tensors([list(moments.values()) for moments in optimizer.state.values()])

    @torch.no_grad()
    def _put_back(self, kept: list[Tensor]) -> None:
        for value, before in zip(self._moved(), kept, strict=True):
            value.copy_(before)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples and lists, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _alike(one: list[Tensor], other: list[Tensor], share: float) -> bool:
    """Whether tensors taken together differ by no more than such a share of their norm."""
    a, b = (torch.cat([value.detach().double().flatten() for value in values]) for values in (one, other))
    return bool((a - b).norm() <= share * (a.norm() + b.norm()))
