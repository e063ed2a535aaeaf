"""The rank of this process in a launch by `torchrun`, from its environment variables.

Torch-free, so that a command can tell at once whether it is the one that prints.
"""

import os
from dataclasses import dataclass

from lso.vae.errors import UsageError

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """The position of a process in a launch."""

    rank: int = 0
    count: int = 1  # number of processes on all machines
    local: int = 0  # rank among the processes of this machine


def process_info() -> ProcessInfo:
    """The position of this process, from the variables of a launch; the only process where they are not all set."""
    if not all(os.environ.get(name) for name in VARIABLES):
        return ProcessInfo()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    try:
        info = ProcessInfo(*(int(os.environ.get(name, "0")) for name in names))
    except ValueError:
        info = ProcessInfo(count=0)  # refused below
    if not 0 <= info.rank < info.count or info.local < 0:
        got = ", ".join(f"{name}={os.environ.get(name, '')}" for name in names)
        raise UsageError(f"expected 0 <= RANK < WORLD_SIZE, got {got}", "Start with torchrun, or unset them.")
    return info


def is_main_process() -> bool:
    """Whether this process is the one that writes and prints."""
    return process_info().rank == 0
