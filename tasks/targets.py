"""Data to search for; images brought to size, channels and polarity as the run brought its training images."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from lso.tasks.arrays import KEYS, REDUCED, as_images, first_key, load_arrays, sixteen_bits, sole_key
from lso.tasks.download import Progress
from lso.tasks.folders import image_files, read_files
from lso.tasks.pixels import border, mean_intensity, prepare
from lso.tasks.task import ARRAY_SUFFIXES, existing, settled
from lso.vae.config import Binarize, DataConfig
from lso.vae.data import Data, take, to_unit
from lso.vae.data import binarize as draw
from lso.vae.errors import DataError

DARK_OR_BRIGHT = 0.15  # training data further than this from mid-grey have a polarity
SEVERAL = 4  # images whose common mean says something about their kind
GREY = "Grey pixels are taken as they are, though training drew them to black or white (--binarize)."
MARGIN = 0.1  # by which the opposite polarity must fit the training mean better


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """Data to search for.

    Args:
        x: as the model sees data: images ``(n, channels, height, width)``, or sequences.
        names: one for each, of its file, or file and number.
        notes: sentences on what was done to them, warnings among them.
        labels: ``(n,)`` classes, where they are known.
    """

    x: Data
    names: tuple[str, ...]
    notes: tuple[str, ...]
    labels: Tensor | None = None

    @property
    def batch(self) -> Tensor:
        """``(n, ...)`` all of them, sequences padded to the longest."""
        return take(self.x, slice(None))

    def first(self, count: int) -> "Targets":
        """The first so many, with a note where that leaves some out.

        Args:
            count: at most.
        Returns:
            Those targets.
        """
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
    """Read a folder, an image file or an .npy or .npz file.

    Args:
        path: what the user gave.
        data: of the run: fit, polarity, bad files, and ``channels=1`` for colour converted to grey; size and limit are
            not used.
        shape: of the model's data, ``(channels, height, width)``.
        binarize: of the run, to say so where grey pixels meet a model of black and white.
        seed: of the run.
        drawn: whether each pixel is drawn once to black or white by that seed, grey being the probability of white.
            Else grey stays grey: the cross-entropy of a grey pixel is its mean over such draws, without their noise.
        reference_mean: mean intensity of the training images (``provenance["mean"]``), to warn of opposite polarity.
        progress: told the files read.
    Returns:
        The targets.
    Raises:
        DataError: if there is nothing to read, or the channels do not fit the model.
    """
    found, data = existing(path), settled(data)
    read = _from_arrays if found.suffix.lower() in ARRAY_SUFFIXES and found.is_file() else _from_files
    x, names, notes = read(found, data, shape, progress)
    x = to_unit(prepare(x, (shape[1], shape[2]), shape[0], how=data.fit, invert=data.invert))
    notes = [f"{len(x)} target{'s' * (len(x) != 1)} from {path}.", *notes]
    notes.append("Polarity turned round (1 - x)." if data.invert else "Polarity as in the files.")
    notes += _warnings(x, names, reference_mean, data.invert)
    grey = bool(((x > 0) & (x < 1)).any())
    if drawn:
        x = draw(x, seed, "targets")
        notes.append(f"Each pixel drawn once to black or white with seed {seed}.")
    elif grey and binarize != "none":
        notes.append(GREY)
    return Targets(x=x, names=tuple(names), notes=tuple(notes))


Found = tuple[Tensor, list[str], list[str]]


def _from_files(path: Path, data: DataConfig, shape: tuple[int, ...], progress: Progress | None) -> Found:
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


def _from_arrays(path: Path, data: DataConfig, shape: tuple[int, ...], progress: Progress | None) -> Found:
    arrays = load_arrays(path)
    key = first_key(arrays, ("targets", *KEYS["test"])) or sole_key(arrays, path)
    deep = sixteen_bits(arrays.values())
    x = as_images(arrays[key], f"{path.name}:{key}", deep=deep)
    if x.shape[1] != shape[0] and data.channels != shape[0]:
        raise DataError(
            f"{path}: targets have {x.shape[1]} channel{'s' * (x.shape[1] > 1)}, expected {shape[0]} as in training",
            f"Convert them, or have them converted with --channels {shape[0]}.",
        )
    same = tuple(x.shape[2:]) == tuple(shape[1:])
    done = "not resized" if same else f"resized to {shape[1]}x{shape[2]} ({data.fit})"
    notes = [f"Images are {x.shape[2]}x{x.shape[3]}, {done}.", *[REDUCED] * deep]
    return x, [f"{path.stem}[{i}]" for i in range(len(x))], notes


def _warnings(x: Tensor, names: list[str], reference_mean: float | None, inverted: bool) -> list[str]:
    flat = (x.flatten(1).amax(dim=1) - x.flatten(1).amin(dim=1) < 1 / 255).nonzero().flatten().tolist()
    found = [f"Warning: {names[i]} is one flat colour." for i in flat]
    if reference_mean is not None and opposite(x, reference_mean):
        remedy = "--no-invert" if inverted else "--invert"
        found.append(
            f"Warning: the targets look like the opposite polarity: mean intensity {mean_intensity(x):z.2f} against "
            f"{reference_mean:z.2f} in training; to turn them round pass {remedy}."
        )
    elif reference_mean is not None and len(x) >= SEVERAL and unlike(x, reference_mean):
        found.append(
            f"Warning: the targets look unlike the training images: mean intensity {mean_intensity(x):z.2f} against "
            f"{reference_mean:z.2f} in training; the model can only answer with what it learned."
        )
    return found


def unlike(x: Float[Tensor, "n channels height width"], reference_mean: float) -> bool:
    """Whether images hold less than half or more than twice the ink of the training images, whichever polarity is ink.

    Args:
        x: images in [0, 1].
        reference_mean: mean intensity of the training images.
    Returns:
        Such as True for thin digits in a wide margin where training digits fill the frame.
    """
    mean, reference = mean_intensity(x), reference_mean
    if reference > 0.5:
        mean, reference = 1 - mean, 1 - reference
    return not reference / 2 <= mean <= 2 * reference


def opposite(x: Float[Tensor, "n channels height width"], reference_mean: float) -> bool:
    """Whether images seem to have the other polarity than training data that are mainly dark or mainly bright.

    The mean of 1 - x must fit the training mean clearly better than that of x, and the background (the median of the
    border) must lie on the other side of mid-grey.

    Args:
        x: images in [0, 1].
        reference_mean: mean intensity of the training images.
    Returns:
        False where the training data have no clear polarity.
    """
    mean, background = mean_intensity(x), border(x).float().mean().item()
    if abs(reference_mean - 0.5) < DARK_OR_BRIGHT:
        return False
    gain = abs(mean - reference_mean) - abs(1 - mean - reference_mean)
    return gain > MARGIN and (background > 0.5) != (reference_mean > 0.5)
