"""Image files of any size, mode and orientation, as bytes of one size."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lso.tasks.datasets.arrays import REDUCED, eight_bits
from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.image_dataset import Raw
from lso.tasks.datasets.preprocessing import coloured, fit, own_size, set_channels
from lso.tasks.datasets.splits import FEWEST, WHOLE, permutation
from lso.tasks.task import IMAGE_SUFFIXES, existing, settled
from lso.vae.config.training import DataConfig
from lso.vae.errors import DataError
from lso.vae.utils.files import printable

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # none that runs another program
MAX_PIXELS = 100_000_000  # a camera's largest; more is taken for a decompression bomb
DRAFT = 4  # a large JPEG may be decoded at a lower resolution, but at no less than this many times the wanted side
LARGE = 25_000_000  # of more pixels blocks are averaged before anything else, which takes a tenth of the time
ROTATED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """What a list of image files gave.

    Args:
        images: ``uint8``, each ``(1 or 3, height, width)`` of one common size; 1 where the picture is grey.
        names: of the files, relative to the folder.
        skipped: name and reason of each file that could not be read.
        notes: sentences on what was done.
    """

    images: Sequence[Tensor]
    names: tuple[str, ...]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]

    def colour_names(self) -> list[str]:
        """Files that are really coloured."""
        return [name for name, x in zip(self.names, self.images, strict=True) if len(x) == 3]

    def stack(self, channels: int) -> Tensor:
        """All images with as many channels.

        Args:
            channels: 1 or 3; 0 is 3 if any is coloured.
        Returns:
            ``(n, channels, height, width)`` ``uint8``.
        """
        wanted = channels or max(len(x) for x in self.images)
        return torch.stack([set_channels(x[None], wanted)[0] for x in self.images])


def load(data: DataConfig, progress: Progress | None = None) -> Raw:
    """A folder of image files, nested folders included.

    Args:
        data: ``path`` is the folder; size, channels, fit and bad files as it says.
        progress: told the files read.
    Returns:
        ``uint8`` images, not split yet, in the order of their names.
    Raises:
        DataError: if there is no such folder, it has too few images, or a bad file and these are refused.
    """
    files = image_files(existing(data.path))
    if data.limit:
        enough = max(FEWEST, -(-data.limit * 10 // 8))
        files = [files[i] for i in permutation(len(files), "limit/files")[:enough].sort().values.tolist()]
    size = (data.size, data.size) if data.size else None
    pictures = read_files(files, Path(data.path).expanduser(), size, data=data, progress=progress)
    images = pictures.stack(data.channels)
    colours = len(pictures.colour_names())
    record = {
        "source": "image files",
        "files": len(pictures.names),
        "skipped": list(pictures.skipped),
        "coloured": colours,
        "notes": [
            *pictures.notes,
            f"{colours} of {len(images)} images are coloured; {images.shape[1]} channel(s) used.",
        ],
    }
    return Raw(splits={WHOLE: images}, provenance=record)


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and below it, by suffix, hidden ones left out, sorted by relative path."""
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, expected a folder of images", "Give the folder that holds them.")
    seen = [p for p in folder.rglob("*") if p.is_file() and not _hidden(p.relative_to(folder))]
    files = [p for p in seen if p.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        kinds = Counter(p.suffix.lower() or "no suffix" for p in seen)
        there = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(4)) or "nothing"
        raise DataError(f"no image files in {folder}; it holds {there}", "PNG, JPEG and the like are read.")
    return sorted(files, key=lambda p: p.relative_to(folder).as_posix())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def read_files(
    files: Sequence[Path],
    root: Path,
    size: tuple[int, int] | None,
    *,
    data: DataConfig,
    progress: Progress | None = None,
) -> Pictures:
    """Decode image files one after the other.

    Args:
        files: to read.
        root: names are relative to it.
        size: ``(height, width)`` wanted; None for the images' own, see `own_size`.
        data: says how to fit, and whether a bad file is refused or skipped.
        progress: told the files read.
    Returns:
        The images that could be read.
    Raises:
        DataError: naming the first bad file where these are refused, or if none is left.
    """
    data = settled(data)
    reader = _Reader(root, data.bad_files, progress, len(files))
    sizes = reader.each(files, "looking at", _size)
    target = size or own_size({found for _, found in sizes})
    read = reader.each([path for path, _ in sizes], "reading", lambda path: _decode(path, target, data.fit))
    if not read:
        raise DataError(f"no file in {root} can be read: {reader.skipped[0]}", "Check that they are images.")
    remarks = Counter(remark for _, (_, found) in read for remark in found)
    notes = [_sizes_note({found for _, found in sizes}, target, data.fit)]
    notes += [f"{count} of {len(read)} files: {remark}." for remark, count in sorted(remarks.items())]
    if reader.skipped:
        notes.append(f"{len(reader.skipped)} of {len(files)} files skipped: {'; '.join(reader.skipped[:5])}.")
    return Pictures(
        images=[image for _, (image, _) in read],
        names=tuple(reader.name(path) for path, _ in read),
        skipped=tuple(reader.skipped),
        notes=tuple(notes),
    )


class _Reader:
    """Applies a function to files and keeps, or raises, what goes wrong."""

    def __init__(self, root: Path, bad_files: str, progress: Progress | None, total: int) -> None:
        self.root, self.bad_files, self.progress, self.total = root, bad_files, progress, total
        self.skipped: list[str] = []

    def name(self, path: Path) -> str:
        return printable(path.relative_to(self.root).as_posix() if self.root.is_dir() else path.name)

    def each(self, files: Sequence[Path], what: str, function: Callable[[Path], T]) -> list[tuple[Path, T]]:
        found = []
        for done, path in enumerate(files, 1):
            try:
                with warnings.catch_warnings():  # PIL warns of odd metadata; its pixels are checked below
                    warnings.simplefilter("ignore")
                    found.append((path, function(path)))
            except Exception as error:  # decoders raise nearly anything on damaged files
                self._bad(path, error)
            if self.progress:
                self.progress(f"{what} {self.root.name}", done, self.total)
        return found

    def _bad(self, path: Path, error: Exception) -> None:
        reason = str(error).replace(str(path), self.name(path)) or type(error).__name__
        if self.bad_files == "refuse":
            raise DataError(
                f"cannot read the image {path}: {reason}",
                "Remove it, or skip and count such files with --bad-files skip.",
            ) from None
        self.skipped.append(f"{self.name(path)} ({reason})")


def _sizes_note(sizes: set[tuple[int, int]], target: tuple[int, int], how: str) -> str:
    if sizes == {target}:
        return f"Images are {target[0]}x{target[1]}, not resized."
    low, high = min(sizes, key=lambda s: s[0] * s[1]), max(sizes, key=lambda s: s[0] * s[1])
    found = f"{low[0]}x{low[1]}" + (f" to {high[0]}x{high[1]}" if len(sizes) > 1 else "")
    return f"Images resized from {found} (height x width) to {target[0]}x{target[1]} ({how})."


def _open(path: Path) -> Any:
    from PIL import Image

    image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS:,}")
    return image


def _size(path: Path) -> tuple[int, int]:
    """Height and width as shown, from the header."""
    with _open(path) as image:
        width, height = image.size
        rotated = image.getexif().get(0x0112) in ROTATED
    return (width, height) if rotated else (height, width)


def _decode(path: Path, size: tuple[int, int], how: str) -> tuple[Tensor, list[str]]:
    """One file at the wanted size, ``(1 or 3, *size)``, and remarks on what was done."""
    from PIL import ImageOps

    with _open(path) as image:
        remarks = ["the first of several frames is used"] if getattr(image, "n_frames", 1) > 1 else []
        if image.getexif().get(0x0112, 1) != 1:
            remarks.append("turned as their EXIF orientation says")
        image.draft(None, (DRAFT * max(size), DRAFT * max(size)))
        image.load()
        large = image.width * image.height > LARGE
        remarks += [f"of more than {LARGE:,} pixels, averaged in blocks before they are resized"] * large
        pixels, remark = _bytes(ImageOps.exif_transpose(_reduced(image, size) if large else image))
    x = torch.from_numpy(pixels.copy()).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)[None].contiguous()
    x = fit(x, size, how)
    if x.shape[1] == 3 and not bool(coloured(x)):
        x = set_channels(x, 1)
    return x[0], remarks + [remark] * bool(remark)


def _reduced(image: Any, size: tuple[int, int]) -> Any:
    """Averages of blocks, at no less than `DRAFT` times the wanted side."""
    factor = min(image.size) // (DRAFT * max(size))
    if factor < 2:
        return image
    if "transparency" in image.info or image.mode in ("PA", "La", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode in ("1", "P") or image.mode.startswith("I;16"):
        image = image.convert({"1": "L", "P": "RGB"}.get(image.mode, "I"))
    return image.reduce(factor)


def _bytes(image: Any) -> tuple[Any, str]:
    """Pixels of any mode as grey or RGB bytes, and a remark on what that took."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return _deep(np.asarray(image))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return _over_white(image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L")), ""
    remark = f"converted from {image.mode} to RGB" if image.mode not in ("RGB", "P") else ""
    return np.asarray(image.convert("RGB")), remark


def _deep(x: Any) -> tuple[Any, str]:
    """More than 8 bits: whole numbers up to 65535, or floats in [0, 1]."""
    low, high = float(x.min()), float(x.max())
    if x.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise ValueError(f"floating pixels from {low:g} to {high:g}, expected 0 to 1")
        return (x * 255).round().astype(np.uint8), "floating pixels rounded to 8 bits"
    if low < 0 or high > 65535:
        raise ValueError(f"pixels from {low:g} to {high:g}, expected 0 to 65535")
    return eight_bits(x), REDUCED.removesuffix(".")


def _over_white(image: Any) -> tuple[Any, str]:
    from PIL import Image

    if image.getextrema()[3][0] == 255:
        return np.asarray(image.convert("RGB")), ""
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image).convert("RGB")), "transparent pixels laid over white"
