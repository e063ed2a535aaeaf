"""Data-parallel training: each process computes its share of a global batch, and the sums are added up.

With one process, and outside `sharded_batch` with several, all of this is the identity, so that the equations of the
step are written once. All processes hold the same weights and draw the noise of the global batch; each takes some rows:

    gradient = sum_p weight_p grad mean_{i in rows_p} loss_i,   weight_p = |rows_p| / batch,

in one flat all-reduce, after which every process clips and steps alike. Where data are coupled (batch-norm, a mean or a
norm over the batch), intermediate sums are added up as well, by `sum_over_processes`, which is differentiable any
number of times.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lso.vae.errors import RunError, UsageError
from lso.vae.launch import ProcessInfo, process_info

# How long a process waits for another. The first one validates alone, which takes minutes for a large decoder.
TIMEOUT = timedelta(minutes=30)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share:
    """The rows of a global batch that a process computes, at least one."""

    rows: slice
    size: int  # of the global batch
    copies: int = 1  # number of processes that compute the same rows

    @property
    def mine(self) -> int:
        """The number of rows of this process."""
        return int(self.rows.stop - self.rows.start)

    @property
    def weight(self) -> float:
        """The weight of the mean over these rows in the mean over the global batch; all processes' add up to 1."""
        return self.mine / (self.size * self.copies)


def compute_share(size: int, rank: int, count: int) -> Share:
    """The share of process ``rank`` of ``count``: consecutive rows, in parts whose sizes differ by one at most."""
    if size < count:  # each process computes all rows and counts for a part, as a network cannot be run on none
        return Share(slice(0, size), size, count)
    return Share(slice(rank * size // count, (rank + 1) * size // count), size)


_count = 1  # number of connected processes
_share: Share | None = None  # this process's share of the step that is being computed
_store: Any = None  # torch's key-value store of the launch, which can be made once only
_group_count = 0  # process groups made so far; -1 after an error, when no other can be made


@contextmanager
def process_group(device: torch.device | str) -> Iterator[None]:
    """Connect the processes of a launch: NCCL between GPUs, gloo between CPUs and for the values of `broadcast_object`.

    They leave the block together and may connect again. A process in which an exception is raised leaves for good, and
    the others get an error: over gloo at once, with NCCL when its program ends. With one process, or inside another
    `process_group`, nothing happens.
    """
    global _count, _group_count
    info = process_info()
    if info.count == 1 or _count > 1:
        yield
        return
    device = torch.device(device)
    try:
        _connect(info, device)
        _count = info.count
        yield
        broadcast_object(None)
    except BaseException:
        _group_count = -1
        if device.type == "cpu" and _count > 1:  # with NCCL this would wait for the others to do the same
            dist.destroy_process_group()
        raise
    else:
        dist.destroy_process_group()
    finally:
        _count = 1


def _connect(info: ProcessInfo, device: torch.device) -> None:
    from torch.distributed.rendezvous import rendezvous  # missing in some builds of torch

    global _store, _group_count
    if _group_count < 0:
        raise UsageError(
            "these processes were disconnected by an error", "Start them again, with --resume to continue the training."
        )
    if dist.is_initialized():
        raise UsageError("there is a process group already", "Leave init_process_group out: training makes its own.")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _report_lost_process():
        if _store is None:
            _store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
        _group_count += 1
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore(f"lso/{_group_count}", _store),  # type: ignore[attr-defined]
            rank=info.rank,
            world_size=info.count,
            timeout=TIMEOUT,
        )


@contextmanager
def _report_lost_process() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the base of all errors that torch raises for a lost connection
        raise RunError(
            f"another process of this training has ended or does not answer ({str(error).splitlines()[0][:100]})",
            "Its own message tells the cause. A training that had begun goes on with --resume.",
        ) from None


# --- plain values of all processes ------------------------------------------------------------------------------------


def broadcast_object(value: T) -> T:
    """The first process's value, returned in every process once all have called this; other values are ignored."""
    if _count == 1:
        return value
    values = [value]
    with _report_lost_process():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def any_process_reason(reason: str | None) -> str | None:
    """The reason of the first process that has one, returned in every process; None if none has any."""
    if _count == 1:
        return reason
    any_reason = torch.tensor(float(reason is not None))  # a number is cheaper than gathering texts at every call
    with _report_lost_process():
        dist.all_reduce(any_reason, op=dist.ReduceOp.MAX)
    return next((each for each in _gather(reason) if each is not None), None) if any_reason.item() else None


def require_same(value: Any, what: str) -> None:
    """Raise a `UsageError` unless all processes have the same value; ``what`` names it, in the plural."""
    if _count > 1 and any(each != value for each in _gather(value)):
        raise UsageError(f"the processes were given different {what}", "Start all by one command, with the same files.")


def _gather(value: T) -> list[T]:
    values: list[Any] = [None] * _count
    with _report_lost_process():
        dist.all_gather_object(values, value)
    return values


# --- within a step ----------------------------------------------------------------------------------------------------


@contextmanager
def sharded_batch(size: int) -> Iterator[Share | None]:
    """A step on a global batch of ``size``: inside, sums over the batch run over all processes."""
    global _share
    _share = None if _count == 1 else compute_share(size, process_info().rank, _count)
    try:
        yield _share
    finally:
        _share = None


def current_share() -> Share | None:
    """This process's share of the step that is being computed; None outside a sharded one."""
    return _share


def sum_flat(tensors: Sequence[Tensor]) -> None:
    """Add up tensors over the processes, in place, by one all-reduce."""
    if _count == 1:
        return
    flat = torch.cat([each.reshape(-1) for each in tensors])
    with _report_lost_process():
        dist.all_reduce(flat)
    parts = torch.split(flat, [each.numel() for each in tensors])
    torch._foreach_copy_(list(tensors), [part.view(each.shape) for part, each in zip(parts, tensors, strict=True)])


def sum_over_processes(x: Tensor) -> Tensor:
    """The elementwise sum of every process's tensor in a step, differentiable any number of times.

    Its gradient is summed too, as the processes minimize the sum of their losses.
    """
    result: Tensor = x if _share is None else _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call]
    return result


def mean_over_batch(mean: Tensor) -> Tensor:
    """The mean over the global batch from the mean over this process's rows, differentiable."""
    return mean if _share is None else sum_over_processes(_share.weight * mean)


def norm_over_batch(x: Tensor, dim: int | None = None) -> Tensor:
    """The Euclidean norm over the global batch, from this process's rows.

    ``dim`` is the batch axis, kept with size 1; None gives the norm of all entries, 0-d.
    """
    norm = x.norm() if dim is None else x.norm(dim=dim, keepdim=True)
    return norm if _share is None else (sum_over_processes(norm.square()) / _share.copies).sqrt()


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = x.clone(memory_format=torch.contiguous_format)
        with _report_lost_process():
            dist.all_reduce(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return sum_over_processes(gradients[0])


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """A context in which torch uses so many CPU threads."""
    # Sums are split by thread, so that another number of threads gives other last digits.
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
