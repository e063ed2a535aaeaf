"""Which of several processes this is, as `torchrun` says. Torch-free, so that a command knows who prints."""

import os
from dataclasses import dataclass

from lso.vae.errors import UsageError

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One of the processes of a launch.

    Args:
        rank: its number, from 0.
        count: of processes, on all machines.
        local: its number on this machine.
    """

    rank: int = 0
    count: int = 1
    local: int = 0


def process_info() -> ProcessInfo:
    """Where this process stands, by ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and the address of the first one.

    Returns:
        The only one of one where they are not all set.
    Raises:
        UsageError: if they are not the numbers of a launch.
    """
    if not all(os.environ.get(name) for name in NEEDED):
        return ProcessInfo()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    try:
        found = ProcessInfo(*(int(os.environ.get(name, "0")) for name in names))
    except ValueError:
        found = ProcessInfo(count=0)
    if not 0 <= found.rank < found.count or found.local < 0:
        said = ", ".join(f"{name}={os.environ.get(name, '')}" for name in names)
        raise UsageError(f"expected 0 <= RANK < WORLD_SIZE, got {said}", "Start with torchrun, or unset them.")
    return found


def is_main_process() -> bool:
    """Whether this process is the one that writes and prints."""
    return process_info().rank == 0
