"""What the commands that look at a model do where it is of sequences: texts on stdout, and in a file beside."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lso.cli.console import Console, shown, table_lines
from lso.cli.looking import Asked
from lso.cli.places import file_place, file_stem, place, variant
from lso.vae.errors import UsageError
from lso.vae.files import replace_lines, whole_folder
from lso.vae.runs import Run
from lso.vae.values import counted

if TYPE_CHECKING:
    from torch import Tensor

    from lso.generation import Generation
    from lso.tasks.traversals import Traversal
    from lso.vae.model import VAE


def sample(console: Console, run: Run, asked: Asked, n: int, out: Path | None, force: bool) -> None:
    """Texts of draws from the prior.

    Args:
        console: where to print.
        run: on sequences.
        asked: how.
        n: how many.
        out: file, or None.
        force: whether it may be overwritten.
    """
    file = file_place(run, out, variant(f"sample-{n}-seed{asked.seed}.txt", asked.how, "sequence"), force)
    console.loading()
    from lso.tasks import experiment, explore

    way = asked.way("sample", common=False)
    model = experiment.load(run, asked.device)
    texts = _spoken(console, model, explore.draw_prior(n, model.latent_dim, asked.seed), way)
    replace_lines(file, texts)
    console.emit({"run": run.path, "n": n, "seed": asked.seed, **way.record(), "texts": texts, "file": file})
    for text in texts:
        console.result(text)
    console.note(f"{counted(n, 'draw')} from the prior, decoded by {shown(run.path)}, seed {asked.seed}: {way.told()}")
    console.note(f"written to {shown(file)}")


def decode(console: Console, run: Run, asked: Asked, codes: Path, out: Path | None, force: bool) -> None:
    """Texts of codes.

    Args:
        console: where to print.
        run: on sequences.
        asked: how.
        codes: file of codes.
        out: file, or None.
        force: whether it may be overwritten.
    """
    file = file_place(run, out, variant(f"decoded-{codes.stem}.txt", asked.how, "sequence"), force)
    console.loading()
    from lso.tasks import experiment, explore

    way = asked.way("greedy")
    z = explore.read_codes(codes, run.config.architecture.latent_dim)
    texts = _spoken(console, experiment.load(run, asked.device), z, way)
    replace_lines(file, texts)
    console.emit({"run": run.path, "codes": codes, "n": len(texts), **way.record(), "texts": texts, "file": file})
    for text in texts:
        console.result(text)
    console.note(f"{counted(len(texts), 'code')} decoded by {shown(run.path)}: {way.told()}")
    console.note(f"written to {shown(file)}")


def interpolate(
    console: Console, run: Run, asked: Asked, ends: tuple[str, str], steps: int, out: Path | None, force: bool
) -> None:
    """Texts on the straight way between the posterior means of two sequences.

    Args:
        console: where to print.
        run: on sequences.
        asked: how.
        ends: what the user gave for both.
        steps: codes on the way.
        out: file, or None.
        force: whether it may be overwritten.
    """
    stem = "-".join(file_stem(text) for text in ends)
    file = file_place(run, out, variant(f"interpolate-{stem}.txt", asked.how, "sequence"), force)
    console.loading()
    from lso.tasks import experiment, explore, speech
    from lso.tasks.pick import pick_one
    from lso.vae.corpus import Corpus

    way = asked.way("greedy")
    model = experiment.load(run, asked.device)
    targets = [pick_one(run, text) for text in ends]
    for target in targets:
        console.notes(target.notes)
    first, last = (explore.encode(model, target.x).mean[0] for target in targets)
    given = [text for target in targets if isinstance(target.x, Corpus) for text in speech.texts(model, target.x)]
    texts = _spoken(console, model, explore.path(first, last, steps), way)
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
    console: Console, run: Run, asked: Asked, paths: "dict[str, Traversal]", steps: int, out: Path | None, force: bool
) -> None:
    """Texts along straight paths, one block a path, the most active first.

    Args:
        console: where to print.
        run: on sequences.
        asked: how.
        paths: heading -> paths.
        steps: codes of each.
        out: folder, or None.
        force: whether it may be overwritten.
    """
    folder = place(run, out, variant("traverse", asked.how, "sequence"), force)
    import torch

    from lso.tasks import experiment

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
    from lso.cli.bars import Counting
    from lso.tasks.speech import speak

    bar = Counting(console, "sequences", "decoding token after token")
    try:
        return speak(model, z, way, bar)
    finally:
        bar.close()
