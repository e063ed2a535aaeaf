"""The noun: a task says what to learn from and how, by default. Torch-free; `images.load_dataset` reads the data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lso.vae.config import DataConfig, Protocol
from lso.vae.errors import DataError, UsageError, unknown_name

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
ARRAY_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A row of the table.

    Args:
        name: what the user types.
        summary: one line for lists.
        load: ``"module:function"`` with signature ``(DataConfig, Progress | None) -> Raw``.
        needs_path: whether there is nothing to load without a file or folder of the user's.
        labelled: whether its data come with class labels.
        architecture: default row of ``ARCHITECTURES``.
        likelihood: of pixels that are not binarized; see `likelihood_for`.
        protocol: default training protocol.
        data: default pixel handling.
    """

    name: str
    summary: str
    load: str
    needs_path: bool = False
    labelled: bool = False
    architecture: str = "conv"
    likelihood: str = "bernoulli"
    protocol: Protocol = field(default_factory=Protocol)
    data: DataConfig = field(default_factory=DataConfig)


def likelihood_for(task: Task, binarize: str) -> str:
    """The likelihood that suits a task's pixels: Bernoulli where they are binarized, else the task's own.

    Users' folders and arrays take the discretized logistic: their pixels are 256 levels with many at the two ends,
    where a Gaussian density can grow without bound, and a Bernoulli one is not a probability of the data at all.

    Args:
        task: row of the table.
        binarize: ``"dynamic"``, ``"fixed"`` or ``"none"``.
    Returns:
        Row of ``LIKELIHOODS``.
    """
    return task.likelihood if binarize == "none" else "bernoulli"


def _table(rows: Iterable[Task]) -> Mapping[str, Task]:
    return {row.name: row for row in rows}


# Users' sets are small and not binary.
USERS = Protocol(batch_size=32, epochs=200, binarize="none")

TASKS: Mapping[str, Task] = _table(
    (
        Task(
            name="digits",
            summary="1,797 handwritten digits, 8x8, embedded (scikit-learn's; UCI Optical Recognition)",
            load="lso.tasks.digits:load",
            labelled=True,
            architecture="mlp",
            protocol=Protocol(batch_size=64, epochs=100),
            data=DataConfig(task="digits", fit="pad"),
        ),
        Task(
            name="mnist",
            summary="70,000 handwritten digits, 28x28: a local npz or idx files, or downloaded (11 MB)",
            load="lso.tasks.mnist:load",
            labelled=True,
            protocol=Protocol(batch_size=128, epochs=50),
            data=DataConfig(task="mnist", fit="pad"),
        ),
        Task(
            name="omniglot",
            summary="32,415 characters of 50 alphabets, 28x28: a local chardata.mat or npz, or downloaded",
            load="lso.tasks.omniglot:load",
            labelled=True,
            protocol=Protocol(batch_size=50, epochs=100),
            data=DataConfig(task="omniglot", fit="pad"),
        ),
        Task(
            name="images",
            summary="a folder of your own PNG or JPEG files, with --data FOLDER",
            load="lso.tasks.folders:load",
            needs_path=True,
            likelihood="logistic",
            protocol=USERS,
            data=DataConfig(task="images", fit="crop"),
        ),
        Task(
            name="arrays",
            summary="your own images as one .npy or .npz file, with --data FILE",
            load="lso.tasks.arrays:load",
            needs_path=True,
            likelihood="logistic",
            protocol=USERS,
            data=DataConfig(task="arrays", fit="crop"),
        ),
    )
)


def task(name: str) -> Task:
    """A task by name.

    Args:
        name: row of `TASKS`.
    Returns:
        The task.
    Raises:
        UsageError: if there is no such task.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def infer_task(path: str | Path) -> str:
    """The task that reads a path given without one.

    Args:
        path: what the user gave with ``--data``.
    Returns:
        ``"images"`` for a folder, ``"arrays"`` for .npy and .npz, ``"omniglot"`` for .mat.
    Raises:
        DataError: if there is nothing at the path.
        UsageError: if it is a file of another kind.
    """
    found = existing(path)
    if found.is_dir():
        return "images"
    suffix = found.suffix.lower()
    if suffix in ARRAY_SUFFIXES:
        return "arrays"
    if suffix == ".mat":
        return "omniglot"
    if suffix in IMAGE_SUFFIXES:
        raise UsageError(f"{path} is a single image, expected a dataset", "Give the folder that holds the images.")
    raise UsageError(f"cannot tell what {path} is", "Give a folder of images or an .npy or .npz file.")


def existing(path: str | Path) -> Path:
    """A path that is there, with ``~`` expanded.

    Args:
        path: of a file or folder.
    Returns:
        The path.
    Raises:
        DataError: if there is nothing.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise DataError(f"there is no file or folder {path}", "Relative paths start in the current folder.")
    return found
