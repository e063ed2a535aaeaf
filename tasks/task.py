"""The table of tasks: a dataset by name, with the architecture, protocol and settings that suit it by default.

Torch-free, as the command line lists the table; `lso.tasks.datasets.loading.load_dataset` reads the data.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lso.vae.config.architectures import Kind
from lso.vae.config.protocol import DataConfig, Protocol
from lso.vae.errors import DataError, UsageError, unknown_name
from lso.vae.utils.lazy import resolve

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
ARRAY_SUFFIXES = (".npy", ".npz")
TEXT_SUFFIXES = (".txt", ".txt.gz")

DATA_WORDS: Mapping[Kind, str] = {"image": "images", "sequence": "text"}
# Fields of `DataConfig` that apply to data of one kind only.
KIND_SETTINGS: Mapping[Kind, tuple[str, ...]] = {
    "image": ("size", "channels", "invert", "fit", "bad_files"),
    "sequence": ("tokenizer", "vocabulary", "vocabulary_size", "min_count", "longest", "limited"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A row of the table.

    Args:
        name: what the user types.
        summary: one line for lists.
        load: ``"module:function"`` with signature ``(DataConfig, Progress | None) -> RawImages`` or ``RawTexts``. It
            reads the file or folder ``data.path``, or the task's own source where that is empty, always with the same
            result. Its caller splits and limits the data, resizes, inverts and binarizes images, and tokenizes text.
        kind: images or sequences.
        prefix: how the file names of a text corpus begin, as in ``ptb.train.txt``.
        suffixes: file name suffixes by which a file is read as this task where the user names none.
        of_folder: the same for the files in a folder; if several tasks match, the first in the table is taken.
        needs_path: whether the user has to give a file or folder.
        drawn: the value of ``--data`` that has the data drawn, always the same, where they could also be read.
        labelled: whether the data have class labels.
        architecture: default row of ``ARCHITECTURES``.
        latent_dim: default number of latent dimensions.
        sizes: sizes of the default architecture that differ from those of its row.
        likelihood: likelihood of tokens, or of pixels that are not binarized; see `likelihood_for`.
        protocol: default training protocol.
        data: default settings of how files become pixels or tokens. Images that come with a task are padded
            (``fit="pad"``), as a crop would cut off ink, and binarized by the protocol; those that a user gives
            (``needs_path``) are cropped and keep their grey levels. ``tests/tasks/test_task.py`` holds rows to it.
        goal: ``"module:function"`` from a run trained on this task to the `lso.tasks.goals.Goal` that a search
            optimizes; empty for a task that is no optimization problem.
    """

    name: str
    summary: str
    load: str
    kind: Kind = "image"
    prefix: str = ""
    suffixes: tuple[str, ...] = ()
    of_folder: tuple[str, ...] = ()
    needs_path: bool = False
    drawn: str = ""
    labelled: bool = False
    architecture: str = "conv"
    latent_dim: int = 32
    sizes: Mapping[str, Any] = field(default_factory=dict)
    likelihood: str = "bernoulli"
    protocol: Protocol = field(default_factory=Protocol)
    data: DataConfig = field(default_factory=DataConfig)
    goal: str = ""


def likelihood_for(task: Task, binarize: str) -> str:
    """The default likelihood: Bernoulli for binarized pixels, else that of the task's row."""
    # Users' images take the discretized logistic: their pixels are 256 levels with many at the two ends, where a
    # Gaussian density can grow without bound, and a Bernoulli one is not a probability of the data at all.
    return task.likelihood if binarize == "none" or task.kind == "sequence" else "bernoulli"


# Fields of `DataConfig` that may be left to the task (value "task"), with the values where its row has none.
USUAL_SETTINGS: Mapping[str, str] = {"fit": "crop", "tokenizer": "words", "limited": "encoded"}


def _table(rows: Iterable[Task]) -> Mapping[str, Task]:
    return {row.name: replace(row, data=_replace_task_values(row.data, USUAL_SETTINGS)) for row in rows}


def _replace_task_values(data: DataConfig, own: Mapping[str, Any]) -> DataConfig:
    return replace(data, **{key: own[key] for key in USUAL_SETTINGS if getattr(data, key) == "task"})


# He et al. (2019), text: SGD; the learning rate is halved after two epochs without a new best, from the 15th epoch on.
TEXT_PROTOCOL = Protocol(
    optimizer="sgd",
    learning_rate=1.0,
    batch_size=32,
    epochs=100,
    clip=5.0,
    patience=2,
    decay_from=15,
    max_decays=5,
    binarize="none",
)


def _corpus(name: str, summary: str, architecture: str, prefix: str = "", labelled: bool = False) -> Task:
    return Task(
        name=name,
        summary=summary,
        load="lso.tasks.datasets.text_corpora:load",
        kind="sequence",
        prefix=prefix or name,
        labelled=labelled,
        architecture=architecture,
        likelihood="categorical",
        protocol=TEXT_PROTOCOL,
        data=DataConfig(task=name),
    )


# Problems over generated sequences: small networks without dropout, as the data are many and free of noise.
GENERATED_PROTOCOL = Protocol(learning_rate=2e-3, batch_size=128, epochs=15, patience=0, binarize="none")
SMALL_NETWORK: Mapping[str, Any] = {"width": 128, "embedding": 32, "dropout": 0.0}

# Users' own image sets are usually small, and not binary.
USER_PROTOCOL = Protocol(batch_size=32, epochs=200, binarize="none")

TASKS: Mapping[str, Task] = _table(
    (
        Task(
            name="digits",
            summary="1,797 handwritten digits, 8x8, embedded (scikit-learn's; UCI Optical Recognition)",
            load="lso.tasks.datasets.digits:load",
            labelled=True,
            architecture="mlp",
            protocol=Protocol(batch_size=64, epochs=100),
            data=DataConfig(task="digits", fit="pad"),
        ),
        Task(
            name="mnist",
            summary="70,000 handwritten digits, 28x28: a local npz or idx files, or downloaded (11 MB)",
            load="lso.tasks.datasets.mnist:load",
            labelled=True,
            protocol=Protocol(batch_size=128, epochs=50),
            data=DataConfig(task="mnist", fit="pad"),
        ),
        Task(
            name="omniglot",
            summary="32,415 characters of 50 alphabets, 28x28: a local chardata.mat or npz, or downloaded",
            load="lso.tasks.datasets.omniglot:load",
            suffixes=(".mat",),
            labelled=True,
            protocol=Protocol(batch_size=50, epochs=100),
            data=DataConfig(task="omniglot", fit="pad"),
        ),
        Task(
            name="images",
            summary="a folder of your own PNG or JPEG files, with --data FOLDER",
            load="lso.tasks.datasets.image_folder:load",
            of_folder=IMAGE_SUFFIXES,
            needs_path=True,
            likelihood="logistic",
            protocol=USER_PROTOCOL,
            data=DataConfig(task="images", fit="crop"),
        ),
        Task(
            name="arrays",
            summary="your own images as one .npy or .npz file, with --data FILE",
            load="lso.tasks.datasets.arrays:load",
            suffixes=ARRAY_SUFFIXES,
            needs_path=True,
            likelihood="logistic",
            protocol=USER_PROTOCOL,
            data=DataConfig(task="arrays", fit="crop"),
        ),
        Task(
            name="text",
            summary="your own text, one sequence a line, with --data FILE or a FOLDER of train.txt and so on",
            load="lso.tasks.datasets.text_files:load",
            suffixes=(*TEXT_SUFFIXES, ".gz"),
            of_folder=TEXT_SUFFIXES,
            kind="sequence",
            needs_path=True,
            architecture="lstm",
            likelihood="categorical",
            protocol=TEXT_PROTOCOL,
            data=DataConfig(task="text"),
        ),
        _corpus("ptb", "Penn Treebank, 49,199 sentences of 10,000 words: local, or downloaded", "lstm"),
        _corpus("snli", "120,000 short sentences: local, or downloaded", "lstm"),
        _corpus(
            "short-yelp",
            "120,000 sentences of reviews with their sentiment: local, or downloaded",
            "lstm",
            prefix="short_yelp",
            labelled=True,
        ),
        _corpus("yahoo", "120,000 questions with answers, 79 words each: local, or downloaded", "he2019-text"),
        _corpus(
            "yelp",
            "120,000 reviews with their stars, 97 words each: local, or downloaded",
            "he2019-text",
            labelled=True,
        ),
        Task(
            name="synthetic",
            summary="20,000 sequences of ten words, generated (He et al. 2019, section 3), for a scalar latent",
            load="lso.tasks.datasets.synthetic_text:load",
            kind="sequence",
            architecture="he2019-toy",
            latent_dim=1,
            likelihood="categorical",
            protocol=replace(TEXT_PROTOCOL, batch_size=16, epochs=50, decay_from=0),
            data=DataConfig(task="synthetic"),
        ),
        Task(
            name="expressions",
            summary="arithmetic expressions, the worse half of 100,000: local, downloaded, or drawn from the grammar",
            load="lso.tasks.problems.expressions:load",
            drawn="grammar",
            kind="sequence",
            prefix="equation2_15_dataset",
            architecture="kim2018-text",
            latent_dim=25,  # Tripp et al. (2020)
            sizes=SMALL_NETWORK,
            likelihood="categorical",
            protocol=GENERATED_PROTOCOL,
            data=DataConfig(task="expressions"),
            goal="lso.tasks.problems.expressions:goal",
        ),
        Task(
            name="ehrlich",
            summary="10,000 sequences of 32 words from a chain with banned steps, generated (Stanton et al. 2024)",
            load="lso.tasks.problems.ehrlich:load",
            kind="sequence",
            architecture="kim2018-text",
            sizes=SMALL_NETWORK,
            likelihood="categorical",
            protocol=replace(GENERATED_PROTOCOL, batch_size=32, epochs=20),
            data=DataConfig(task="ehrlich"),
            goal="lso.tasks.problems.ehrlich:goal",
        ),
        Task(
            name="digits-preference",
            summary="the embedded digits, in search of one that a classifier takes for a 3",
            load="lso.tasks.datasets.digits:load",
            labelled=True,
            architecture="mlp",
            protocol=Protocol(batch_size=64, epochs=100),
            data=DataConfig(task="digits-preference", fit="pad"),
            goal="lso.tasks.problems.digits_preference:goal",
        ),
        Task(
            name="squares",
            summary="10,900 pictures of one square, 64x64, generated (Tripp et al. 2020), for two latents",
            load="lso.tasks.problems.squares:load",
            architecture="conv",
            latent_dim=2,
            protocol=Protocol(batch_size=16, epochs=20, patience=0),
            data=DataConfig(task="squares", fit="pad"),
            goal="lso.tasks.problems.squares:goal",
        ),
        Task(
            name="molecules",
            summary="249,455 molecules of ZINC as SELFIES: local, or downloaded; extra: lso[molecules]",
            load="lso.tasks.problems.molecules:load",
            kind="sequence",
            architecture="transformer",
            latent_dim=56,
            likelihood="categorical",
            protocol=Protocol(batch_size=128, epochs=30, clip=1.0, patience=3, binarize="none", lengths="near"),
            data=DataConfig(task="molecules", tokenizer="selfies", limited="read"),
            goal="lso.tasks.problems.molecules:qed",
        ),
    )
)


def task(name: str) -> Task:
    """The row of a task, by its name."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def fill_defaults(data: DataConfig) -> DataConfig:
    """Replace the settings that a data configuration leaves to its task by the values of the task."""
    # All loading of data goes through here, so that DataConfig(task="molecules") in Python is that of the command line.
    if any(getattr(data, key) == "task" for key in USUAL_SETTINGS):
        own = task(data.task).data
        data = _replace_task_values(data, {key: getattr(own, key) for key in USUAL_SETTINGS})
    return data if data.limit or data.limited == "encoded" else replace(data, limited="encoded")  # nothing is limited


def check_settings(data: DataConfig, binarize: str = "none", lengths: str = "equal") -> Task:
    """The row of a configuration's task, after refusing settings that are for another kind of data."""
    row, data = task(data.task), fill_defaults(data)
    for kind, keys in KIND_SETTINGS.items():
        changed = [key for key in keys if getattr(data, key) != getattr(row.data, key)]
        if kind != row.kind and changed:
            which = f"{' and '.join(changed)} {'is' if len(changed) == 1 else 'are'}"
            raise UsageError(f"{which} for {kind}s, and task {row.name} has {row.kind}s", "Leave it out.")
    if row.kind == "sequence" and binarize != "none":
        raise UsageError(f"binarize is for images, and task {row.name} has sequences", "Leave it out, or give none.")
    if row.kind == "image" and lengths != "equal":
        raise UsageError(f"lengths is for sequences, and task {row.name} has images", "Leave it out.")
    return row


def find_loader(data: DataConfig) -> Callable[..., Any]:
    """The function that reads the files of a configuration's task, after checking the settings and the path."""
    row = check_settings(data)
    if row.needs_path and not data.path:
        raise UsageError(f"task {row.name} needs a path to your {DATA_WORDS[row.kind]}", "Give it with --data PATH.")
    found: Callable[..., Any] = resolve(row.load)
    return found


def infer_task(path: str | Path) -> str:
    """The task that reads a path for which the user named none.

    That is ``"images"`` for a folder, ``"arrays"`` for .npy and .npz, ``"omniglot"`` for .mat, ``"text"`` for .txt, .gz
    and a folder of .txt or .txt.gz files, or the corpus that these files are named after.
    """
    place = require_path(path)
    if place.is_dir():
        return _infer_from_folder(place)
    readers = (row.name for row in TASKS.values() if row.suffixes and place.name.lower().endswith(row.suffixes))
    if reader := next(readers, None):
        return reader
    if place.suffix.lower() in IMAGE_SUFFIXES:
        raise UsageError(f"{path} is a single image, expected a dataset", "Give the folder that holds the images.")
    raise UsageError(
        f"cannot tell what {path} is",
        "Give a folder of images, or an .npy, .npz, .txt or .gz file; of text with another name add --task text.",
    )


def _infer_from_folder(folder: Path) -> str:
    names = [path.name.lower() for path in folder.iterdir()]
    readers = [row for row in TASKS.values() if row.of_folder]
    reader = next((row for row in readers if any(name.endswith(row.of_folder) for name in names)), readers[0])
    held = [name for name in names if name.endswith(reader.of_folder)]
    of_kind = (
        row for row in TASKS.values() if row.prefix and row.kind == reader.kind
    )  # corpora, by their files' names
    corpora = (row.name for row in of_kind if any(name.startswith(f"{row.prefix}.") for name in held))
    return next(corpora, reader.name)


def require_path(path: str | Path) -> Path:
    """The path with ``~`` expanded, after checking that it exists."""
    expanded = Path(path).expanduser()
    try:
        there = expanded.exists()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        raise DataError(f"there is no file or folder {path}", "Relative paths start in the current folder.")
    return expanded
