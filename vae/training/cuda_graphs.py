"""Training steps as CUDA graphs: the kernels of a step are recorded once and from then on launched together.

At batch 50 a step consists of some 700 small kernels, and launching them one by one takes longer than computing them.
A step reads nothing but tensors (see `lso.vae.training.step`), so it can be recorded; its inputs are copied to the
addresses that the recording reads. One recording serves one batch shape, one choice of encoder and decoder, and the
optimizers it was made with.
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

WARM = 3  # ordinary steps of a kind before it is recorded: libraries choose their algorithms in these
MAX_RECORDINGS = 16  # further kinds of steps, e.g. many lengths of text, are not recorded
# Relative differences from the ordinary step at which a recording is rejected: in the reported metrics, and in the
# change of weights, statistics and moments. The second is large because Adam takes full steps even along gradients
# that are only rounding error, so that some weights may move the opposite way.
METRIC_TOLERANCE, CHANGE_TOLERANCE = 0.01, 0.1

Run = Callable[[], StepMetrics]
Record = Callable[[Run], Run]


def cuda_graphs() -> Record:
    """Return a function that records a step on a GPU, for one set of optimizers.

    It takes a function that launches the same kernels on the same addresses each time and reads nothing back, and
    returns one that launches them again, whose result the next call overwrites.
    """
    # Recordings may share memory: only the result of a step outlives it, and they never run at the same time.
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
    """The training step, replayed from a CUDA graph where recording works, else taken as usual.

    The first replay is checked against the ordinary step from the same weights: the reported metrics, and the change of
    weights, running statistics and moments. If recording fails or the two differ, no step is replayed from then on, and
    ``sentence`` says why.

    Args:
        state: weights and optimizers; replacing the optimizers discards the recordings.
        recorder: makes a recording function for each set of optimizers; None never records, as on a CPU, where there
            is no launch time to save.
    """

    def __init__(self, state: State, recorder: Callable[[], Record] | None) -> None:
        self.state = state
        self.recorder = recorder
        self.sentence = ""
        self.forget()

    def forget(self) -> None:
        """Drop all recordings, to be called when weights or moments have moved to other addresses."""
        self._record = self.recorder() if self.recorder is not None else None
        self._optimizers = self.state.optimizers
        self._seen: dict[Any, int] = {}
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, x: Tensor, noise: StepNoise, knobs: StepInputs, groups: tuple[Group, ...] = BOTH) -> StepMetrics:
        """Take one step, see `step`; the next call may overwrite the returned metrics."""
        if self.recorder is None:
            return step(self.state, x, noise, knobs, groups)
        if self.state.optimizers is not self._optimizers:
            self.forget()
        tensors = list(_tensors((x, noise, knobs)))
        kind = (groups, tuple((tuple(value.shape), value.dtype) for value in tensors))
        if kind in self._recordings:
            recording = self._recordings[kind]
            for inside, value in zip(recording.inputs, tensors, strict=True):
                inside.copy_(value)
            return recording.run()
        self._seen[kind] = self._seen.get(kind, 0) + 1
        if self._seen[kind] <= WARM or len(self._recordings) == MAX_RECORDINGS:
            return step(self.state, x, noise, knobs, groups)
        return self._record_kind(kind, x, noise, knobs, groups)

    def _record_kind(
        self, kind: Any, x: Tensor, noise: StepNoise, knobs: StepInputs, groups: tuple[Group, ...]
    ) -> StepMetrics:
        """Record and replay a kind of step, undo the replay, take the ordinary step, and compare the two."""
        assert self._record is not None
        inside, before = copy.deepcopy((x, noise, knobs)), self._copy_changed()
        try:
            run = self._record(lambda: step(self.state, *inside, groups))
            replayed = StepMetrics(*(value.clone() for value in run()))
            why = ""
        except RuntimeError as error:
            why = first_line(error)
        after = self._copy_changed()
        self._restore_changed(before)
        info = step(self.state, x, noise, knobs, groups)
        if not why and not (_same_report(info, replayed) and _same_change(before, self._copy_changed(), after)):
            why = "a replayed step differed from the ordinary one"
        if why:
            self.recorder, self.sentence = None, f"steps are not replayed: {why}"
        else:
            self._recordings[kind] = _Recording(list(_tensors(inside)), run)
        return info

    def _changed_tensors(self) -> dict[str, list[Tensor]]:
        """Return all tensors that a step changes, by kind."""
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

    def _copy_changed(self) -> dict[str, list[Tensor]]:
        return {name: [value.clone() for value in part] for name, part in self._changed_tensors().items()}

    @torch.no_grad()
    def _restore_changed(self, kept: dict[str, list[Tensor]]) -> None:
        for name, part in self._changed_tensors().items():
            for value, before in zip(part, kept[name], strict=True):
                value.copy_(before)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested tuples, lists and dictionaries, in order."""
    return (part for part in tree_leaves(value) if isinstance(part, Tensor))


def _same_report(one: StepMetrics, other: StepMetrics) -> bool:
    """Whether each loss and the gradient norm agree within the tolerance."""
    # Relative to the loss as well, so that a KL near 0 is not compared with itself alone.
    room = METRIC_TOLERANCE * 1e-2 * one.loss.abs()
    return all(bool((a - b).abs() <= METRIC_TOLERANCE * a.abs() + room) for a, b in zip(one, other, strict=True))


def _same_change(before: dict[str, list[Tensor]], *ends: dict[str, list[Tensor]]) -> bool:
    """Whether the changes of weights, of statistics and of moments agree within the tolerance."""
    for name in ("weights", "statistics", "moments"):
        one, other = (
            [(value - start).double().flatten() for value, start in zip(end[name], before[name], strict=True)]
            for end in ends
        )
        if one:
            a, b = torch.cat(one), torch.cat(other)
            if not bool((a - b).norm() <= CHANGE_TOLERANCE * (a.norm() + b.norm())):
                return False
    return True
