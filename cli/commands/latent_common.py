"""Shared by the commands that look at a latent space: how codes are decoded, and those commands for models of text."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lso.cli.console import Console, display_path, table_lines
from lso.cli.output_paths import How, Way, file_stem, name_with_way, output_file, output_path
from lso.vae.errors import UsageError
from lso.vae.runs import Run
from lso.vae.utils.files import replace_lines, whole_folder
from lso.vae.utils.validation import convert, pluralize

if TYPE_CHECKING:
    from torch import Tensor

    from lso.decoders.generation import Generation
    from lso.tasks.exploration import Drawing
    from lso.tasks.traversals import Traversal
    from lso.vae.models.vae import VAE

AVERAGED_DRAWS = 16  # in the mean image of an autoregressive decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawOptions:
    """The flags that say how codes are decoded; None where a flag was not given."""

    how: str | None = None
    samples: int = AVERAGED_DRAWS  # of images
    temperature: float | None = None  # of text, like the next two
    top_p: float | None = None
    beam_width: int | None = None
    seed: int = 0
    device: str = "auto"

    @property
    def _text_flags(self) -> dict[str, Any]:
        every = {"temperature": self.temperature, "top_p": self.top_p, "beam_width": self.beam_width}
        return {key: value for key, value in every.items() if value is not None}

    def for_images(self, model: "VAE", *, common: bool = True) -> "Drawing":
        """How codes become images; without ``--how`` the model's default.

        Args:
            model: of images.
            common: whether all codes share one image of uniforms.
        Returns:
            The checked options.
        Raises:
            UsageError: if there is no such way, or a flag for text was given.
        """
        from lso.tasks.exploration import Drawing, default_how

        if flags := [f"--{key.replace('_', '-')}" for key in self._text_flags]:
            raise UsageError(f"{' and '.join(flags)} is for text, and this model is of images", "Leave it out.")
        how = default_how(model) if self.how is None else convert(self.how, How, "--how")
        return Drawing(how=how, common=common, seed=self.seed, samples=self.samples)

    def for_text(self, default: "Way", *, common: bool = True) -> "Generation":
        """How codes become text.

        Args:
            default: the way where neither ``--how`` nor a flag of one way, such as ``--beam-width``, was given.
            common: whether all codes share one row of uniforms.
        Returns:
            The checked options.
        Raises:
            UsageError: if there is no such way, or a flag belongs to another one.
        """
        from lso.decoders.generation import OPTION_METHODS, Generation

        if self.samples != AVERAGED_DRAWS:
            raise UsageError("--samples is for images, and this model is of sequences", "Leave it out.")
        implied = next((OPTION_METHODS[key][0] for key in self._text_flags), default)
        how = implied if self.how is None else convert(self.how, Way, "--how")
        return Generation(how=how, common=common, seed=self.seed, **self._text_flags)


def decode_with_progress(console: Console, model: "VAE", z: "Tensor", drawing: "Drawing") -> "Tensor":
    """Decode codes into images, with a progress bar."""
    from lso.cli.progress import Counting
    from lso.tasks import exploration

    bar = Counting(console, "images", "drawing pixel after pixel" if model.autoregressive else "decoding")
    try:
        return exploration.decode_images(model, z, drawing, bar)
    finally:
        bar.close()


def sample_texts(console: Console, run: Run, options: DrawOptions, n: int, out: Path | None, force: bool) -> None:
    """`lso sample` for a model of sequences: print and write texts decoded from draws of the prior."""
    name = name_with_way(f"sample-{n}-seed{options.seed}.txt", options.how, "sequence")
    file = output_file(run, out, name, force)
    console.loading()
    from lso.tasks import exploration
    from lso.tasks.training import experiment

    way = options.for_text("sample", common=False)
    model = experiment.load(run, options.device)
    texts = _decode_texts(console, model, exploration.draw_prior(n, model.latent_dim, options.seed), way)
    replace_lines(file, texts)
    console.emit({"run": run.path, "n": n, "seed": options.seed, **way.record(), "texts": texts, "file": file})
    for text in texts:
        console.result(text)
    drawn = f"{pluralize(n, 'draw')} from the prior, decoded by {display_path(run.path)}"
    console.note(f"{drawn}, seed {options.seed}: {way.told()}")
    console.note(f"written to {display_path(file)}")


def print_texts_of_codes(
    console: Console, run: Run, options: DrawOptions, codes: Path, out: Path | None, force: bool
) -> None:
    """`lso decode` for a model of sequences: print and write the texts of a file of codes."""
    file = output_file(run, out, name_with_way(f"decoded-{codes.stem}.txt", options.how, "sequence"), force)
    console.loading()
    from lso.tasks import exploration
    from lso.tasks.training import experiment

    way = options.for_text("greedy")
    z = exploration.read_codes(codes, run.config.architecture.latent_dim)
    texts = _decode_texts(console, experiment.load(run, options.device), z, way)
    replace_lines(file, texts)
    console.emit({"run": run.path, "codes": codes, "n": len(texts), **way.record(), "texts": texts, "file": file})
    for text in texts:
        console.result(text)
    console.note(f"{pluralize(len(texts), 'code')} decoded by {display_path(run.path)}: {way.told()}")
    console.note(f"written to {display_path(file)}")


def interpolate_texts(
    console: Console,
    run: Run,
    options: DrawOptions,
    ends: tuple[str, str],
    steps: int,
    out: Path | None,
    force: bool,
) -> None:
    """`lso interpolate` for a model of sequences: texts along the line between two posterior means."""
    stem = "-".join(file_stem(text) for text in ends)
    file = output_file(run, out, name_with_way(f"interpolate-{stem}.txt", options.how, "sequence"), force)
    console.loading()
    from lso.tasks import exploration
    from lso.tasks.search.targets import load_datum
    from lso.tasks.training import experiment
    from lso.vae.data.corpus import Corpus

    way = options.for_text("greedy")
    model = experiment.load(run, options.device)
    targets = [load_datum(run, text) for text in ends]
    for target in targets:
        console.notes(target.notes)
    first, last = (exploration.encode_data(model, target.x).mean[0] for target in targets)
    given = [
        text for target in targets if isinstance(target.x, Corpus) for text in exploration.corpus_texts(model, target.x)
    ]
    texts = _decode_texts(console, model, exploration.interpolate_codes(first, last, steps), way)
    distance = float((first - last).norm())
    shares = [f"{100 * i / (steps - 1):z.0f} %" for i in range(steps)]
    rows = [["A", given[0]], *map(list, zip(shares, texts, strict=True)), ["B", given[1]]]
    replace_lines(file, ["\t".join(row) for row in rows])
    facts = {"run": run.path, "a": given[0], "b": given[1], "steps": steps, "distance": distance}
    console.emit({**facts, **way.record(), "texts": texts, "file": file})
    console.table(("way", "text"), rows)
    console.note(
        f"{steps} codes on a line of length {distance:z.2f}: {way.told()}; A and B are the sequences themselves"
    )
    console.note(f"written to {display_path(file)}")


def traverse_texts(
    console: Console,
    run: Run,
    options: DrawOptions,
    paths: "dict[str, Traversal]",
    steps: int,
    out: Path | None,
    force: bool,
) -> None:
    """`lso traverse` for a model of sequences: texts along straight paths, the most active path first."""
    folder = output_path(run, out, name_with_way("traverse", options.how, "sequence"), force)
    import torch

    from lso.tasks.training import experiment

    if not paths:
        raise UsageError("there is nothing to traverse: no dimension is active", "Take --dim all.")
    way = options.for_text("greedy")
    model = experiment.load(run, options.device)
    codes = torch.cat([path.codes(steps).flatten(0, 1) for path in paths.values()])
    texts = iter(_decode_texts(console, model, codes, way))
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for heading, path in paths.items():
        lines += [heading, ""]
        for name, activity in zip(path.names, path.activity.tolist(), strict=True):
            cells = [[value, next(texts)] for value in path.places(steps)]
            rows += [{"path": heading, "row": name, "variance": activity, "at": at, "text": text} for at, text in cells]
            lines += [*table_lines((name, f"variance {activity:.2g}"), cells), ""]
    file = folder / "traverse.txt"
    with whole_folder(folder) as half:
        replace_lines(half / file.name, lines)
    console.emit({"run": run.path, **way.record(), "steps": steps, "rows": rows, "file": file, "verdict": run.verdict})
    for line in lines:
        console.result(line)
    console.note(f"variance: that of the posterior mean along the path, over validation data; {way.told()}")
    if run.verdict:
        console.warn(run.verdict)
    console.note(f"written to {display_path(file)}")


def _decode_texts(console: Console, model: "VAE", z: "Tensor", way: "Generation") -> list[str]:
    """Decode codes into texts, with a progress bar."""
    from lso.cli.progress import Counting
    from lso.tasks.exploration import decode_texts

    bar = Counting(console, "sequences", "decoding token after token")
    try:
        return decode_texts(model, z, way, bar)
    finally:
        bar.close()
