"""Training with several processes: each computes the sums of its share of a global batch, and they are added up.

All of this is the identity with one process, and outside `sharded_batch` with several, so that the equations of the
step are written once. The processes hold the same weights and draw the noise of the global batch; each takes some rows:

    gradient = sum_p weight_p grad mean_{i in rows_p} loss_i,   weight_p = |rows_p| / batch,

one flat all-reduce, after which every process clips and steps alike. Where data are coupled (batch-norm, a mean or a
norm over the batch) the sums in the middle are added up as well, by a function that gradients run through, any number
of times.
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

# Nobody waits longer for another one. The first process validates alone, which takes minutes for a large decoder.
TIMEOUT = timedelta(minutes=30)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share:
    """What a process computes of a global batch.

    Args:
        rows: its rows, at least one.
        size: of the global batch.
        copies: processes that compute the same rows.
    """

    rows: slice
    size: int
    copies: int = 1

    @property
    def mine(self) -> int:
        """How many rows it has."""
        return int(self.rows.stop - self.rows.start)

    @property
    def weight(self) -> float:
        """Of the mean over its rows in the mean over the global batch; these add up to 1."""
        return self.mine / (self.size * self.copies)


def share_of(size: int, rank: int, count: int) -> Share:
    """The share of one process: rows in their order, in parts whose sizes differ by one at most.

    Args:
        size: of the global batch.
        rank: of the process.
        count: of processes.
    Returns:
        Its share. Of a batch smaller than the number of processes each computes all and counts for a part: a network
        need not be run on nothing.
    """
    if size < count:
        return Share(slice(0, size), size, count)
    return Share(slice(rank * size // count, (rank + 1) * size // count), size)


_count = 1  # processes that are joined
_share: Share | None = None  # of the batch of the step that is being computed
_store: Any = None  # where the processes of a launch find each other; it can be made once
_meetings = 0  # of them so far; -1 once they have parted by an error


@contextmanager
def process_group(device: torch.device | str) -> Iterator[None]:
    """The processes of a launch, connected: NCCL between GPUs, gloo between CPUs and for what the hosts agree on.

    They leave the block together, and may join again. Where an exception comes through one leaves for good, of which
    the others hear: over gloo at once, with NCCL when its program ends. With one process, or inside another
    `process_group`, nothing happens.
    """
    global _count, _meetings
    here = process_info()
    if here.count == 1 or _count > 1:
        yield
        return
    device = torch.device(device)
    try:
        _connect(here, device)
        _count = here.count
        yield
        broadcast_object(None)
    except BaseException:
        _meetings = -1
        if device.type == "cpu" and _count > 1:  # NCCL would wait for the others to do the same
            dist.destroy_process_group()
        raise
    else:
        dist.destroy_process_group()
    finally:
        _count = 1


def _connect(here: ProcessInfo, device: torch.device) -> None:
    from torch.distributed.rendezvous import rendezvous  # not there in every build of torch

    global _store, _meetings
    if _meetings < 0:
        raise UsageError("these processes have parted after an error", "Start them again, with --resume to go on.")
    if dist.is_initialized():
        raise UsageError("there is a process group already", "Leave init_process_group out: training makes its own.")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _reached():
        if _store is None:
            _store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
        _meetings += 1
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore(f"lso/{_meetings}", _store),  # type: ignore[attr-defined]
            rank=here.rank,
            world_size=here.count,
            timeout=TIMEOUT,
        )


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # so are all of torch's own that tell of a lost connection
        raise RunError(
            f"another process of this training has ended or does not answer ({str(error).splitlines()[0][:100]})",
            "What it says itself is the cause. A training that had begun goes on with --resume.",
        ) from None


# --- what the hosts agree on ------------------------------------------------------------------------------------------


def broadcast_object(value: T) -> T:
    """The first process's value, for all; everybody waits for it.

    Args:
        value: plain values; what the others give is not looked at.
    Returns:
        That of the first process.
    Raises:
        RunError: if another process is lost.
    """
    if _count == 1:
        return value
    found = [value]
    with _reached():
        dist.broadcast_object_list(found, src=0)
    return found[0]


def any_process_reason(reason: str | None) -> str | None:
    """What any process says, for all.

    Args:
        reason: of this process, None for nothing.
    Returns:
        That of the first one that says something; None if none does.
    Raises:
        RunError: if another process is lost.
    """
    if _count == 1:
        return reason
    number = torch.tensor(float(reason is not None))
    with _reached():
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
    return next((each for each in _gather(reason) if each is not None), None) if number.item() else None


def require_same(value: Any, what: str) -> None:
    """Refuse processes that were started for different things."""
    if _count > 1 and any(each != value for each in _gather(value)):
        raise UsageError(f"the processes were given different {what}", "Start all by one command, with the same files.")


def _gather(value: T) -> list[T]:
    found: list[Any] = [None] * _count
    with _reached():
        dist.all_gather_object(found, value)
    return found


# --- within a step ----------------------------------------------------------------------------------------------------


@contextmanager
def sharded_batch(size: int) -> Iterator[Share | None]:
    """A step on a global batch: inside, sums are those of all processes."""
    global _share
    _share = None if _count == 1 else share_of(size, process_info().rank, _count)
    try:
        yield _share
    finally:
        _share = None


def shared() -> Share | None:
    """The share of the step that is being computed."""
    return _share


def sum_flat(tensors: Sequence[Tensor]) -> None:
    """Add up tensors over the processes by one all-reduce, in place."""
    if _count == 1:
        return
    flat = torch.cat([each.reshape(-1) for each in tensors])
    with _reached():
        dist.all_reduce(flat)
    parts = torch.split(flat, [each.numel() for each in tensors])
    torch._foreach_copy_(list(tensors), [part.view(each.shape) for part, each in zip(parts, tensors, strict=True)])


def total(x: Tensor) -> Tensor:
    """The sum over processes in a step, differentiable any number of times.

    Args:
        x: of this process.
    Returns:
        The same shape, the same in every process. Its gradient is summed too, as what all minimize is the sum of their
        losses.
    """
    found: Tensor = x if _share is None else _Sum.apply(x)  # type: ignore[no-untyped-call]
    return found


def mean_over_batch(mean: Tensor) -> Tensor:
    """The mean over the global batch, differentiable."""
    return mean if _share is None else total(_share.weight * mean)


def norm_over_batch(x: Tensor, dim: int | None = None) -> Tensor:
    """Euclidean norm over the global batch.

    Args:
        x: of this process's rows.
        dim: that the batch lies along, kept with size 1; None is the norm of all entries, 0-d.
    Returns:
        The norm, the same in every process.
    """
    norm = x.norm() if dim is None else x.norm(dim=dim, keepdim=True)
    return norm if _share is None else (total(norm.square()) / _share.copies).sqrt()


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        found = x.clone(memory_format=torch.contiguous_format)
        with _reached():
            dist.all_reduce(found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return total(gradients[0])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many CPU threads inside: sums are split by thread, so another number gives other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
