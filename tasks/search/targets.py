"""Data to search for, brought to the form of the run's training data: files, parts of its own data, sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.tasks.datasets.arrays import (
    REDUCED_TO_8_BITS,
    SPLIT_KEYS,
    as_images,
    find_images_key,
    find_key,
    has_16_bit_images,
    load_arrays,
)
from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.image_folder import image_files, read_files
from lso.tasks.datasets.line_reader import TextLines, read_text_lines
from lso.tasks.datasets.loading import model_inputs
from lso.tasks.datasets.packing import count_unknown, encode_lines
from lso.tasks.datasets.preprocessing import border_median, mean_intensity, prepare_images
from lso.tasks.datasets.tokenizers import TOKENIZERS, Tokenizer, tokenizer
from lso.tasks.task import ARRAY_SUFFIXES, TASKS, TEXT_SUFFIXES, fill_defaults, require_path
from lso.tasks.training.experiment import reload_dataset
from lso.vae.config.protocol import Binarize, DataConfig
from lso.vae.config.training import from_dict
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import SPLITS, Data, Split, take_batch, to_unit
from lso.vae.data.dataset import binarize as draw
from lso.vae.errors import DataError, UsageError
from lso.vae.runs import Run

DARK_OR_BRIGHT = 0.15  # training data further than this from mid-grey have a polarity
SEVERAL = 4  # images whose common mean says something about their kind
GREY = "Grey pixels are taken as they are, though training drew them to black or white (--binarize)."
MARGIN = 0.1  # by which the opposite polarity must fit the training mean better


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """Data to search for, as the model takes them."""

    x: Data  # images (n, channels, height, width), or sequences
    names: tuple[str, ...]  # the file of each, or its file and number
    notes: tuple[str, ...]  # sentences on how they were read, warnings among them
    labels: Tensor | None = None  # (n,) classes, where they are known

    @property
    def batch(self) -> Tensor:
        """All targets as one tensor ``(n, ...)``, sequences padded to the longest."""
        return take_batch(self.x, slice(None))

    def first(self, count: int) -> "Targets":
        """The first ``count`` targets, with a note if that leaves some out."""
        if count >= len(self.x):
            return self
        cut = f"Cut to the first {count} of {len(self.x)} targets."
        labels = None if self.labels is None else self.labels[:count]
        return Targets(x=self.x[:count], names=self.names[:count], notes=(*self.notes, cut), labels=labels)


def load_targets(
    path: str | Path,
    data: DataConfig,
    shape: tuple[int, ...],
    binarize: Binarize,
    seed: int,
    *,
    drawn: bool = False,
    reference_mean: float | None = None,
    progress: Progress | None = None,
) -> Targets:
    """Read target images from a folder, an image file, or an .npy or .npz file.

    Args:
        path: the folder or file.
        data: data configuration of the run: fit, polarity, bad files, and ``channels=1`` to convert colour to grey;
            size and limit are not used.
        shape: ``(channels, height, width)`` of the model's data.
        binarize: how the run binarized images, to say so where grey pixels meet a model of black and white.
        seed: seed of the binarization.
        drawn: whether each pixel is drawn once to black or white, its grey value being the probability of white.
            Otherwise grey stays grey: its cross-entropy is the mean over such draws, without their noise.
        reference_mean: mean intensity of the training images (``provenance["mean"]``), to warn of opposite polarity.
        progress: called with the files read.
    Returns:
        The targets.
    Raises:
        DataError: if there is nothing to read, or the channels do not fit the model.
    """
    place, data = require_path(path), fill_defaults(data)
    read = _from_arrays if place.suffix.lower() in ARRAY_SUFFIXES and place.is_file() else _from_files
    x, names, notes = read(place, data, shape, progress)
    x = to_unit(prepare_images(x, (shape[1], shape[2]), shape[0], how=data.fit, invert=data.invert))
    notes = [f"{len(x)} target{'s' * (len(x) != 1)} from {path}.", *notes]
    notes.append("Polarity inverted (1 - x)." if data.invert else "Polarity as in the files.")
    notes += _polarity_warnings(x, names, reference_mean, data.invert)
    grey = bool(((x > 0) & (x < 1)).any())
    if drawn:
        x = draw(x, seed, "targets")
        notes.append(f"Each pixel drawn once to black or white with seed {seed}.")
    elif grey and binarize != "none":
        notes.append(GREY)
    return Targets(x=x, names=tuple(names), notes=tuple(notes))


LoadedImages = tuple[Tensor, list[str], list[str]]


def _from_files(path: Path, data: DataConfig, shape: tuple[int, ...], progress: Progress | None) -> LoadedImages:
    files = image_files(path) if path.is_dir() else [path]
    root = path if path.is_dir() else path.parent
    pictures = read_files(files, root, (shape[1], shape[2]), data=data, progress=progress)
    colours = pictures.colour_names()
    notes, total = list(pictures.notes), len(pictures.names)
    if shape[0] == 1 and colours:
        if data.channels != 1:
            raise DataError(
                f"{root / colours[0]} is a colour image (3 channels), expected grey as in training (1 channel)",
                "Convert it to grey, or have it converted with --channels 1.",
            )
        notes.append(f"{len(colours)} of {total} files converted from colour to grey.")
    if shape[0] == 3 and len(colours) < total:
        notes.append(f"{total - len(colours)} of {total} files are grey, repeated in 3 channels.")
    return pictures.stack(shape[0]), list(pictures.names), notes


def _from_arrays(path: Path, data: DataConfig, shape: tuple[int, ...], progress: Progress | None) -> LoadedImages:
    arrays = load_arrays(path)
    key = find_key(arrays, ("targets", *SPLIT_KEYS["test"])) or find_images_key(arrays, path)
    deep = has_16_bit_images(arrays.values())
    x = as_images(arrays[key], f"{path.name}:{key}", deep=deep)
    if x.shape[1] != shape[0] and data.channels != shape[0]:
        raise DataError(
            f"{path}: targets have {x.shape[1]} channel{'s' * (x.shape[1] > 1)}, expected {shape[0]} as in training",
            f"Convert them, or have them converted with --channels {shape[0]}.",
        )
    same = tuple(x.shape[2:]) == tuple(shape[1:])
    done = "not resized" if same else f"resized to {shape[1]}x{shape[2]} ({data.fit})"
    notes = [f"Images are {x.shape[2]}x{x.shape[3]}, {done}.", *[REDUCED_TO_8_BITS] * deep]
    return x, [f"{path.stem}[{i}]" for i in range(len(x))], notes


def _polarity_warnings(x: Tensor, names: list[str], reference_mean: float | None, inverted: bool) -> list[str]:
    flat = (x.flatten(1).amax(dim=1) - x.flatten(1).amin(dim=1) < 1 / 255).nonzero().flatten().tolist()
    warnings = [f"Warning: {names[i]} is one flat colour." for i in flat]
    if reference_mean is not None and has_opposite_polarity(x, reference_mean):
        remedy = "--no-invert" if inverted else "--invert"
        warnings.append(
            f"Warning: the targets look like the opposite polarity: mean intensity {mean_intensity(x):z.2f} against "
            f"{reference_mean:z.2f} in training; to invert them pass {remedy}."
        )
    elif reference_mean is not None and len(x) >= SEVERAL and has_unlike_ink(x, reference_mean):
        warnings.append(
            f"Warning: the targets look unlike the training images: mean intensity {mean_intensity(x):z.2f} against "
            f"{reference_mean:z.2f} in training; the model can only answer with what it learned."
        )
    return warnings


def has_unlike_ink(x: Float[Tensor, "n channels height width"], reference_mean: float) -> bool:
    """Whether images have less than half or more than twice the ink of the training images, dark or bright.

    Thin digits in a wide margin are an example, where the training digits fill the frame.
    """
    mean, reference = mean_intensity(x), reference_mean
    if reference > 0.5:
        mean, reference = 1 - mean, 1 - reference
    return not reference / 2 <= mean <= 2 * reference


def has_opposite_polarity(x: Float[Tensor, "n channels height width"], reference_mean: float) -> bool:
    """Whether images seem to have the other polarity than training data that are mainly dark or mainly bright.

    The mean of 1 - x must fit the training mean clearly better than that of x, and the background (the median of the
    border) must lie on the other side of mid-grey.
    """
    mean, background = mean_intensity(x), border_median(x).float().mean().item()
    if abs(reference_mean - 0.5) < DARK_OR_BRIGHT:
        return False
    gain = abs(mean - reference_mean) - abs(1 - mean - reference_mean)
    return gain > MARGIN and (background > 0.5) != (reference_mean > 0.5)


UNKNOWN_WARNING_SHARE = 0.1  # share of unknown tokens from which on they are worth a warning


def load_sentences(run: Run, what: str | Path) -> Targets:
    """Read target sequences for a model from a text file, or take the text itself where there is no such file.

    Sequences too long for the model are left out; notes say which, and how many tokens are unknown.
    """
    lines, names = _read_lines_or_sentence(what)
    vocabulary = run.model().vocabulary
    if vocabulary is None:
        raise DataError(f"{run.path} does not know its vocabulary", "Search in Python, for token numbers.")
    corpus, _ = encode_lines(lines.texts, vocabulary, tokenizer_for_run(run, vocabulary.joiner))
    longest = int(run.info["shape"][0])
    kept = (corpus.lengths <= longest).nonzero().flatten()
    notes = [*lines.notes]
    if len(kept) < len(corpus):
        why = f"longer than the {longest - 2} tokens that the model was made for"
        if not len(kept):
            raise DataError(f"{lines.name}: every sequence is {why}", "Shorten them, or train with longer ones.")
        long = [names[i] for i in range(len(corpus)) if corpus.lengths[i] > longest]
        notes.append(f"Warning: {len(long)} of {len(corpus)} sequences are {why} and left out: {_list_few(long)}.")
    sentences = corpus[kept]
    if int(count_unknown(sentences).sum()) == int(sentences.lengths.sum()) - 2 * len(sentences):
        raise DataError(
            f"{lines.name}: no token is known to the model",
            "Give text of the kind that it was trained on, split as there.",
        )
    notes += unknown_notes(sentences)
    return Targets(
        x=sentences,
        names=tuple(names[i] for i in kept.tolist()),
        notes=tuple(notes),
        labels=_training_labels(run, lines, kept),
    )


def _read_lines_or_sentence(what: str | Path) -> tuple[TextLines, list[str]]:
    """The lines of a text file, or one sentence, and a name for each."""
    text = str(what)
    try:
        there = Path(what).expanduser().exists()
    except OSError:  # a sentence longer than any name of a file
        there = False
    if there or text.lower().endswith(TEXT_SUFFIXES):
        path = require_path(what)
        if path.is_dir():
            raise DataError(f"{what} is a folder, expected a text file", "Give a file with one sequence a line.")
        lines = read_text_lines(path)
        count = f"{len(lines.texts)} target{'s' * (len(lines.texts) != 1)} from {what}."
        names = [f"sequence {i + 1}" for i in range(len(lines.texts))]
        return TextLines(name=lines.name, texts=lines.texts, labels=lines.labels, notes=(count, *lines.notes)), names
    if not text.strip():
        raise UsageError("an empty sentence", "Write one in quotes, or give a text file.")
    note = "Taken as a sentence, as there is no such file."
    return TextLines(name=f"{text.strip()[:40]!r}, which is no file", texts=[text.strip()], notes=(note,)), ["sentence"]


def tokenizer_for_run(run: Run, joiner: str) -> Tokenizer:
    """The tokenizer of a run; for data given in Python the built-in one with their joiner."""
    if run.config.data.task in TASKS:
        return tokenizer(fill_defaults(run.config.data).tokenizer, run.trust)
    return next((one for one in TOKENIZERS.values() if one.joiner == joiner), TOKENIZERS["words"])


def unknown_notes(corpus: Corpus) -> list[str]:
    """A note on the unknown tokens of a corpus, if there are any; a warning if they are a tenth of all or more."""
    missed = count_unknown(corpus)
    count, total = int(missed.sum()), int(corpus.lengths.sum()) - 2 * len(corpus)
    if not count:
        return []
    where = f"in {int((missed > 0).sum())} of {len(corpus)} sequences"
    told = f"{count} of {total:,} tokens, {where}, are unknown to the model."
    return [f"Warning: {told}" if count >= UNKNOWN_WARNING_SHARE * total else told]


def _training_labels(run: Run, lines: TextLines, kept: Tensor) -> Int[Tensor, " n"] | None:
    """Class labels by the numbers that training gave them, or None if a label is new."""
    known = {label: i for i, label in enumerate(run.info["dataset"]["provenance"].get("labels") or ())}
    if not lines.labels or not set(lines.labels) <= known.keys():
        return None
    return torch.tensor([known[label] for label in lines.labels])[kept]


def _list_few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def parse_split(what: str | Path) -> tuple[Split, str] | None:
    """Split ``"test:20"`` into the split and what follows the colon; None for a path or anything else."""
    name, _, number = str(what).partition(":")
    split = next((split for split in SPLITS if split == name), None)
    return None if split is None or Path(what).exists() else (split, number)


def load_data(
    run: Run, what: str | Path, *, pixels: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> Targets:
    """Load data to search for or to encode, as the model takes them.

    Args:
        run: the training run of the model.
        what: ``"test:20"`` (the first 20 data of a split of the run's own data), ``"validation"`` (a whole split), or a
            folder, image, .npy or .npz file; for a model of sequences a text file, or the sentence itself.
        pixels: settings of how files become pixels that differ from the run's (`config.DataConfig`): channels, invert,
            fit, bad_files; and ``binarize``, see `load_targets`.
        progress: called with the files read.
    """
    part = parse_split(what)
    if part is None:
        return _load_outside_data(run, what, pixels or {}, progress)
    _refuse_pixel_changes(what, pixels)
    split, number = part
    dataset = reload_dataset(run)
    x, labels = model_inputs(dataset, split), dataset.labels.get(split)
    if number and (not number.isdigit() or not 1 <= int(number) <= len(x)):
        raise UsageError(f"expected {split}:N with N from 1 to {len(x)}, got {what}", f"For example {split}:20.")
    first = slice(int(number) if number else None)
    chosen = _to_model_input(x, first)
    more = unknown_notes(chosen) if isinstance(chosen, Corpus) else []
    return Targets(
        x=chosen,
        names=tuple(f"{split} {i}" for i in range(len(chosen))),
        notes=(f"{len(chosen)} of {len(x)} {split} {dataset.kind}s of {dataset.name}.", *more),
        labels=None if labels is None else labels[first],
    )


def load_datum(run: Run, what: str | Path, *, pixels: Mapping[str, Any] | None = None) -> Targets:
    """Load one datum: ``"test:3"`` is number 3 of the test split, counted from 0; else a file or a sentence."""
    part = parse_split(what)
    if part is None:
        found = _load_outside_data(run, what, pixels or {}, None)
        if len(found.x) != 1:
            instead = "Give an image file" if run.config.kind == "image" else "Write a sentence in quotes"
            raise UsageError(
                f"{what} holds {len(found.x)} {run.config.kind}s, expected one", f"{instead}, or e.g. test:3."
            )
        return found
    _refuse_pixel_changes(what, pixels)
    split, number = part
    x = model_inputs(reload_dataset(run), split)
    if not number.isdigit() or int(number) >= len(x):
        raise UsageError(f"expected {split}:N with N from 0 to {len(x) - 1}, got {what}", f"For example {split}:3.")
    index = int(number)
    return Targets(x=_to_model_input(x, slice(index, index + 1)), names=(f"{split} {index}",), notes=())


def _to_model_input(x: Data, rows: slice) -> Data:
    part = x[rows]
    return part if isinstance(part, Corpus) else to_unit(part).to(torch.get_default_dtype())


def _load_outside_data(run: Run, what: str | Path, pixels: Mapping[str, Any], progress: Progress | None) -> Targets:
    if run.config.kind == "image":
        return _load_images(run, what, pixels, progress)
    if pixels:
        raise UsageError(f"{_as_flags(pixels)} is for images, and {run.path} is of sequences", "Leave it out.")
    return load_sentences(run, what)


def _refuse_pixel_changes(what: str | Path, pixels: Mapping[str, Any] | None) -> None:
    if pixels:
        raise UsageError(
            f"{_as_flags(pixels)} is for files, and {what} is a part of the run's own data", "Leave it out."
        )


def _as_flags(pixels: Mapping[str, Any]) -> str:
    return " and ".join(f"--{key.replace('_', '-')}" for key in pixels)


def _load_images(run: Run, what: str | Path, pixels: Mapping[str, Any], progress: Progress | None) -> Targets:
    changes = dict(pixels)
    drawn = bool(changes.pop("binarize", False))
    return load_targets(
        what,
        from_dict({"data": changes}, run.config).data,
        tuple(run.info["shape"]),
        run.config.protocol.binarize,
        run.config.seed,
        drawn=drawn,
        reference_mean=run.info["dataset"]["provenance"].get("mean"),
        progress=progress,
    )
