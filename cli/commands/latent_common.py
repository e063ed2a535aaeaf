"""What the commands that look at a model share: how codes are drawn, with progress; texts on stdout and in a file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lso.cli.console import Console
from lso.cli.output_paths import How, Way
from lso.vae.errors import UsageError
from lso.vae.utils.validation import convert

if TYPE_CHECKING:
    from torch import Tensor

    from lso.decoders.generation import Generation
    from lso.tasks.exploration import Drawing
    from lso.vae.models.vae import VAE
from pathlib import Path
from typing import TYPE_CHECKING

from lso.cli.console import shown, table_lines
from lso.cli.output_paths import file_place, file_stem, place, variant
from lso.vae.runs import Run
from lso.vae.utils.files import replace_lines, whole_folder
from lso.vae.utils.validation import pluralize

if TYPE_CHECKING:
    from torch import Tensor

    from lso.decoders.generation import Generation
    from lso.tasks.traversals import Traversal
    from lso.vae.models.vae import VAE


AVERAGED = 16  # draws in the mean of an autoregressive decoder of images


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawOptions:
    """How the user wants codes to be drawn, as the flags say.

    Args:
        how: of ``--how``, or None.
        samples: of ``--samples``, of images.
        temperature: of text, as the next two.
        top_p: see above.
        beam_width: see above.
        seed: of the uniforms.
        device: where.
    """

    how: str | None = None
    samples: int = AVERAGED
    temperature: float | None = None
    top_p: float | None = None
    beam_width: int | None = None
    seed: int = 0
    device: str = "auto"

    @property
    def _of_text(self) -> dict[str, Any]:
        every = {"temperature": self.temperature, "top_p": self.top_p, "beam_width": self.beam_width}
        return {key: value for key, value in every.items() if value is not None}

    def of_images(self) -> "DrawOptions":
        """The same for a model of images."""
        if flags := [f"--{key.replace('_', '-')}" for key in self._of_text]:
            raise UsageError(f"{' and '.join(flags)} is for text, and this model is of images", "Leave it out.")
        return self

    def way(self, usual: "Way", *, common: bool = True) -> "Generation":
        """How a model of sequences speaks.

        Args:
            usual: where no way was asked for, and no flag belongs to one.
            common: whether all codes share their uniforms.
        Returns:
            The way.
        Raises:
            UsageError: if there is no such way, or a flag is of another.
        """
        from lso.decoders.generation import OPTION_METHODS, Generation

        if self.samples != AVERAGED:
            raise UsageError("--samples is for images, and this model is of sequences", "Leave it out.")
        owner = next((OPTION_METHODS[key][0] for key in self._of_text), usual)
        how = owner if self.how is None else convert(self.how, Way, "--how")
        return Generation(how=how, common=common, seed=self.seed, **self._of_text)


def drawing(model: "VAE", asked: DrawOptions, *, common: bool = True) -> "Drawing":
    """How codes become images.

    Args:
        model: the VAE.
        asked: how the user wants it; no way is the model's default.
        common: whether all codes share their uniforms.
    Returns:
        The drawing.
    Raises:
        UsageError: if there is no such way, or a flag is of text.
    """
    from lso.tasks.exploration import Drawing, default_how

    given = asked.of_images()
    chosen = default_how(model) if given.how is None else convert(given.how, How, "--how")
    return Drawing(how=chosen, common=common, seed=given.seed, samples=given.samples)


def decoded(console: Console, model: "VAE", z: "Tensor", drawn: "Drawing") -> "Tensor":
    """Images of codes, with a bar."""
    from lso.cli.progress.bars import Counting
    from lso.tasks import exploration

    bar = Counting(console, "images", "drawing pixel after pixel" if model.autoregressive else "decoding")
    try:
        return exploration.decode(model, z, drawn, bar)
    finally:
        bar.close()


def sample(console: Console, run: Run, asked: DrawOptions, n: int, out: Path | None, force: bool) -> None:
    """Texts of draws from the prior."""
    file = file_place(run, out, variant(f"sample-{n}-seed{asked.seed}.txt", asked.how, "sequence"), force)
    console.loading()
    from lso.tasks import exploration
    from lso.tasks.training import experiment

    way = asked.way("sample", common=False)
    model = experiment.load(run, asked.device)
    texts = _spoken(console, model, exploration.draw_prior(n, model.latent_dim, asked.seed), way)
    replace_lines(file, texts)
    console.emit({"run": run.path, "n": n, "seed": asked.seed, **way.record(), "texts": texts, "file": file})
    for text in texts:
        console.result(text)
    console.note(
        f"{pluralize(n, 'draw')} from the prior, decoded by {shown(run.path)}, seed {asked.seed}: {way.told()}"
    )
    console.note(f"written to {shown(file)}")


def decode(console: Console, run: Run, asked: DrawOptions, codes: Path, out: Path | None, force: bool) -> None:
    """Texts of codes."""
    file = file_place(run, out, variant(f"decoded-{codes.stem}.txt", asked.how, "sequence"), force)
    console.loading()
    from lso.tasks import exploration
    from lso.tasks.training import experiment

    way = asked.way("greedy")
    z = exploration.read_codes(codes, run.config.architecture.latent_dim)
    texts = _spoken(console, experiment.load(run, asked.device), z, way)
    replace_lines(file, texts)
    console.emit({"run": run.path, "codes": codes, "n": len(texts), **way.record(), "texts": texts, "file": file})
    for text in texts:
        console.result(text)
    console.note(f"{pluralize(len(texts), 'code')} decoded by {shown(run.path)}: {way.told()}")
    console.note(f"written to {shown(file)}")


def interpolate(
    console: Console, run: Run, asked: DrawOptions, ends: tuple[str, str], steps: int, out: Path | None, force: bool
) -> None:
    """Texts on the straight way between the posterior means of two sequences."""
    stem = "-".join(file_stem(text) for text in ends)
    file = file_place(run, out, variant(f"interpolate-{stem}.txt", asked.how, "sequence"), force)
    console.loading()
    from lso.tasks import exploration
    from lso.tasks.search.targets import pick_one
    from lso.tasks.training import experiment
    from lso.vae.data.corpus import Corpus

    way = asked.way("greedy")
    model = experiment.load(run, asked.device)
    targets = [pick_one(run, text) for text in ends]
    for target in targets:
        console.notes(target.notes)
    first, last = (exploration.encode(model, target.x).mean[0] for target in targets)
    given = [text for target in targets if isinstance(target.x, Corpus) for text in exploration.texts(model, target.x)]
    texts = _spoken(console, model, exploration.path(first, last, steps), way)
    distance = float((first - last).norm())
    places = [f"{100 * i / (steps - 1):z.0f} %" for i in range(steps)]
    rows = [["A", given[0]], *map(list, zip(places, texts, strict=True)), ["B", given[1]]]
    replace_lines(file, ["\t".join(row) for row in rows])
    facts = {"run": run.path, "a": given[0], "b": given[1], "steps": steps, "distance": distance}
    console.emit({**facts, **way.record(), "texts": texts, "file": file})
    console.table(("way", "text"), rows)
    console.note(
        f"{steps} steps between codes {distance:z.2f} apart: {way.told()}; the sequences themselves at the ends"
    )
    console.note(f"written to {shown(file)}")


def traverse(
    console: Console,
    run: Run,
    asked: DrawOptions,
    paths: "dict[str, Traversal]",
    steps: int,
    out: Path | None,
    force: bool,
) -> None:
    """Texts along straight paths, one block a path, the most active first."""
    folder = place(run, out, variant("traverse", asked.how, "sequence"), force)
    import torch

    from lso.tasks.training import experiment

    if not paths:
        raise UsageError("there is nothing to traverse: no dimension is active", "Take --dim all.")
    way = asked.way("greedy")
    model = experiment.load(run, asked.device)
    codes = torch.cat([path.codes(steps).flatten(0, 1) for path in paths.values()])
    texts = iter(_spoken(console, model, codes, way))
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
    console.note(f"variance: of the posterior mean along a row, validation; {way.told()}")
    if run.verdict:
        console.warn(run.verdict)
    console.note(f"written to {shown(file)}")


def _spoken(console: Console, model: "VAE", z: "Tensor", way: "Generation") -> list[str]:
    """Texts of codes, with a bar."""
    from lso.cli.progress.bars import Counting
    from lso.tasks.exploration import speak

    bar = Counting(console, "sequences", "decoding token after token")
    try:
        return speak(model, z, way, bar)
    finally:
        bar.close()
