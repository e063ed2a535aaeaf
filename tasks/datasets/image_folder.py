"""The task `images`: decodes a folder of image files of any size, mode and orientation to 8-bit images of one size."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lso.tasks.datasets.arrays import REDUCED_TO_8_BITS, reduce_to_8_bits
from lso.tasks.datasets.download import Progress
from lso.tasks.datasets.image_dataset import RawImages
from lso.tasks.datasets.preprocessing import is_coloured, resize, set_channels, working_size
from lso.tasks.datasets.splits import MIN_TO_SPLIT, UNSPLIT, permutation
from lso.tasks.task import IMAGE_SUFFIXES, fill_defaults, require_path
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import DataError
from lso.vae.utils.files import printable

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # none for which Pillow runs another program
MAX_PIXELS = 100_000_000  # the largest cameras have as many; more is taken for a decompression bomb
MIN_DRAFT_FACTOR = 4  # large images are first reduced coarsely, but to no less than this many times the wanted side
BLOCK_AVERAGE_PIXELS = 25_000_000  # larger images are averaged in blocks first, which takes a tenth of the time
ROTATED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFiles:
    """The images decoded from a list of files, and the files that could not be decoded."""

    images: Sequence[Tensor]  # uint8, each (1 or 3, height, width), 1 where it is grey; all of one height and width
    names: tuple[str, ...]  # of the decoded files, relative to the folder
    skipped: tuple[str, ...]  # "name (reason)" of each file that could not be read
    notes: tuple[str, ...]  # sentences for the provenance

    def colour_names(self) -> list[str]:
        """Names of the files whose images are in colour."""
        return [name for name, x in zip(self.names, self.images, strict=True) if len(x) == 3]

    def stack(self, channels: int) -> Tensor:
        """All images as ``(n, channels, height, width)`` bytes; 0 channels stands for 3 if any is in colour, else 1."""
        wanted = channels or max(len(x) for x in self.images)
        return torch.stack([set_channels(x[None], wanted)[0] for x in self.images])


def load(data: DataConfig, progress: Progress | None = None) -> RawImages:
    """Read the image files of a folder and its subfolders, in the order of their paths; they are not split yet."""
    files = image_files(require_path(data.path))
    if data.limit:  # read no more files than the limited splits need: training takes eight tenths
        enough = max(MIN_TO_SPLIT, -(-data.limit * 10 // 8))
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
            f"{colours} of {len(images)} images are in colour; {images.shape[1]} channel(s) used.",
        ],
    }
    return RawImages(splits={UNSPLIT: images}, provenance=record)


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, told by suffix, sorted by relative path, without hidden ones."""
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, expected a folder of images", "Give the folder that holds them.")
    visible = [p for p in folder.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(folder))]
    files = [p for p in visible if p.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        suffixes = Counter(p.suffix.lower() or "no suffix" for p in visible)
        content = ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common(4)) or "nothing"
        raise DataError(
            f"no image files in {folder}; it holds {content}",
            f"Expected files that end in {', '.join(IMAGE_SUFFIXES)}.",
        )
    return sorted(files, key=lambda p: p.relative_to(folder).as_posix())


def _is_hidden(path: Path) -> bool:
    # zip archives made on a Mac put resource forks, which are no images, into __MACOSX
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def read_files(
    files: Sequence[Path],
    root: Path,
    size: tuple[int, int] | None,
    *,
    data: DataConfig,
    progress: Progress | None = None,
) -> ImageFiles:
    """Decode image files one after the other.

    Args:
        files: paths of the images.
        root: folder to which the names of the files are made relative.
        size: ``(height, width)`` wanted; None for that of `working_size`.
        data: ``fit`` says how to resize, ``bad_files`` whether an unreadable file is refused or skipped.
        progress: called for each file.
    Raises:
        DataError: naming the first unreadable file where these are refused, or if no file can be read.
    """
    data = fill_defaults(data)
    reader = _ImageReader(root, data.bad_files, progress, len(files))
    sizes = reader.apply_to_each(files, "reading the sizes of", _displayed_size)
    target = size or working_size({found for _, found in sizes})
    read = reader.apply_to_each([path for path, _ in sizes], "reading", lambda path: _decode(path, target, data.fit))
    if not read:
        raise DataError(f"no file in {root} can be read: {reader.skipped[0]}", "Check that they are images.")
    remarks = Counter(remark for _, (_, of_file) in read for remark in of_file)
    notes = [_sizes_note({found for _, found in sizes}, target, data.fit)]
    notes += [f"{count} of {len(read)} files: {remark}." for remark, count in sorted(remarks.items())]
    if reader.skipped:
        notes.append(f"{len(reader.skipped)} of {len(files)} files skipped: {'; '.join(reader.skipped[:5])}.")
    return ImageFiles(
        images=[image for _, (image, _) in read],
        names=tuple(reader.name(path) for path, _ in read),
        skipped=tuple(reader.skipped),
        notes=tuple(notes),
    )


class _ImageReader:
    """Applies functions to files; a file on which one fails is refused or skipped, as ``bad_files`` says."""

    def __init__(self, root: Path, bad_files: str, progress: Progress | None, total: int) -> None:
        self.root, self.bad_files, self.progress, self.total = root, bad_files, progress, total
        self.skipped: list[str] = []

    def name(self, path: Path) -> str:
        return printable(path.relative_to(self.root).as_posix() if self.root.is_dir() else path.name)

    def apply_to_each(
        self, files: Sequence[Path], activity: str, function: Callable[[Path], T]
    ) -> list[tuple[Path, T]]:
        results = []
        for done, path in enumerate(files, 1):
            try:
                with warnings.catch_warnings():  # PIL warns of odd metadata; its pixels are checked below
                    warnings.simplefilter("ignore")
                    results.append((path, function(path)))
            except Exception as error:  # decoders raise nearly anything on damaged files
                self._handle_bad_file(path, error)
            if self.progress:
                self.progress(f"{activity} {self.root.name}", done, self.total)
        return results

    def _handle_bad_file(self, path: Path, error: Exception) -> None:
        reason = str(error).replace(str(path), self.name(path)) or type(error).__name__
        if self.bad_files == "refuse":
            raise DataError(
                f"cannot read the image {path}: {reason}",
                "Remove it, or leave such files out, and have them counted, with --bad-files skip.",
            ) from None
        self.skipped.append(f"{self.name(path)} ({reason})")


def _sizes_note(sizes: set[tuple[int, int]], target: tuple[int, int], how: str) -> str:
    if sizes == {target}:
        return f"Images are {target[0]}x{target[1]}, not resized."
    low, high = min(sizes, key=lambda s: s[0] * s[1]), max(sizes, key=lambda s: s[0] * s[1])
    found = f"{low[0]}x{low[1]}" + (f" to {high[0]}x{high[1]}" if len(sizes) > 1 else "")
    return f"Images resized from {found} (height x width) to {target[0]}x{target[1]} ({how})."


def _open_image(path: Path) -> Any:
    from PIL import Image

    image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS:,}")
    return image


def _displayed_size(path: Path) -> tuple[int, int]:
    """Height and width as displayed, read from the header alone."""
    with _open_image(path) as image:
        width, height = image.size
        rotated = image.getexif().get(0x0112) in ROTATED
    return (width, height) if rotated else (height, width)


def _decode(path: Path, size: tuple[int, int], how: str) -> tuple[Tensor, list[str]]:
    """One file at the wanted size, ``(1 or 3, *size)``, and remarks on how it was converted."""
    from PIL import ImageOps

    with _open_image(path) as image:
        remarks = ["the first of several frames is used"] if getattr(image, "n_frames", 1) > 1 else []
        if image.getexif().get(0x0112, 1) != 1:
            remarks.append("turned as their EXIF orientation says")
        # A JPEG decoder reduces while it decodes, which is faster; draft has no effect on other formats.
        image.draft(None, (MIN_DRAFT_FACTOR * max(size), MIN_DRAFT_FACTOR * max(size)))
        image.load()
        large = image.width * image.height > BLOCK_AVERAGE_PIXELS
        remarks += [f"of more than {BLOCK_AVERAGE_PIXELS:,} pixels, averaged in blocks before they are resized"] * large
        pixels, remark = _to_grey_or_rgb(ImageOps.exif_transpose(_average_blocks(image, size) if large else image))
    x = torch.from_numpy(pixels.copy()).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)[None].contiguous()
    x = resize(x, size, how)
    if x.shape[1] == 3 and not bool(is_coloured(x)):
        x = set_channels(x, 1)
    return x[0], remarks + [remark] * bool(remark)


def _average_blocks(image: Any, size: tuple[int, int]) -> Any:
    """Reduce a large image by averaging blocks of pixels, to no less than `MIN_DRAFT_FACTOR` times the wanted side."""
    factor = min(image.size) // (MIN_DRAFT_FACTOR * max(size))
    if factor < 2:
        return image
    if "transparency" in image.info or image.mode in ("PA", "La", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode in ("1", "P") or image.mode.startswith("I;16"):
        image = image.convert({"1": "L", "P": "RGB"}.get(image.mode, "I"))
    return image.reduce(factor)


def _to_grey_or_rgb(image: Any) -> tuple[Any, str]:
    """Pixels of any image mode as grey or RGB bytes, and a remark if they had to be converted."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return _from_high_bit_depth(np.asarray(image))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return _composite_over_white(image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L")), ""
    remark = f"converted from {image.mode} to RGB" if image.mode not in ("RGB", "P") else ""
    return np.asarray(image.convert("RGB")), remark


def _from_high_bit_depth(x: Any) -> tuple[Any, str]:
    """Bytes of pixels that have more than 8 bits: whole numbers up to 65535, or floats in [0, 1]."""
    low, high = float(x.min()), float(x.max())
    if x.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise ValueError(f"floating pixels from {low:g} to {high:g}, expected 0 to 1")
        return (x * 255).round().astype(np.uint8), "floating pixels rounded to 8 bits"
    if low < 0 or high > 65535:
        raise ValueError(f"pixels from {low:g} to {high:g}, expected 0 to 65535")
    return reduce_to_8_bits(x), REDUCED_TO_8_BITS.removesuffix(".")


def _composite_over_white(image: Any) -> tuple[Any, str]:
    from PIL import Image

    if image.getextrema()[3][0] == 255:
        return np.asarray(image.convert("RGB")), ""
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image).convert("RGB")), "transparent pixels laid over white"
