"""The task `expressions`: find 1/3 + x + sin(x*x) among arithmetic expressions, trained on the worse half of 100,000.

Source: Kusner et al. (2017), arXiv:1703.01925; Tripp et al. (2020), arXiv:2006.09191.
"""

import statistics
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lso.tasks.datasets.download import Progress, RemoteFile, fetch
from lso.tasks.datasets.line_reader import TextLines, read_text_lines
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.datasets.splits import UNSPLIT
from lso.tasks.datasets.text_dataset import RawTexts
from lso.tasks.goals import Goal
from lso.tasks.problems.expression_grammar import WORDS, Evaluator, draw_expressions, parse
from lso.tasks.task import TASKS, require_path
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import Dataset
from lso.vae.errors import DataError
from lso.vae.runs import Run
from lso.vae.utils.random import generator, mix_seed

TARGET = "1 / 3 + x + sin( x * x )"
POINTS = np.linspace(-10.0, 10.0, 1000)
MAX_SCORE = 7.0
EXPRESSIONS, MAX_PRODUCTIONS = 100_000, 15
KNOWN_POOL, BEST_DIVISOR = 5000, 5  # random data that a search starts from, and of how many of them one is a best
PUBLISHED_BLOB = "8b5f8dbe47617618b7b0f2cc9d6025f361dc638e"
FILE_STEM = "equation2_15_dataset"
REMOTE = RemoteFile(
    name=f"expressions/{FILE_STEM}.txt",
    urls=(
        "https://raw.githubusercontent.com/mkusner/grammarVAE/ffffe272a8cf1772578dfc92254c55c224cddc02/data/"
        f"{FILE_STEM}.txt",
    ),
    checksums=(f"blob:{PUBLISHED_BLOB}",),
)


def score(expressions: Sequence[Any]) -> list[float | None]:
    """The distance of expressions from the target expression, to be minimized.

        min(7, log(1 + mean (f(x) - 1/3 - x - sin(x*x))^2)) over 1,000 points of [-10, 10]

    Source: Tripp et al. (2020), arXiv:2006.09191. Deviations: there an expression that cannot be read scores 7, here it
    is invalid; so is one that is undefined somewhere, as inf/inf. One that overflows scores 7, as there.
    """
    return [_score(text) for text in expressions]


def _score(text: Any) -> float | None:
    tree = parse(text) if isinstance(text, str) else None
    if tree is None:
        return None
    values, (evaluate, target) = 0.0, _target_values()
    with np.errstate(all="ignore"):
        values = float(np.minimum(MAX_SCORE, np.log(1 + np.mean((evaluate(tree) - target) ** 2))))
    return None if np.isnan(values) else values


@cache
def _target_values() -> tuple[Evaluator, Any]:
    evaluate = Evaluator(POINTS)
    return evaluate, evaluate(parse(TARGET))


def load(data: DataConfig, progress: Progress | None = None) -> RawTexts:
    """The worse half of 100,000 expressions: those with a score at or above the median.

    They are the published ones, from a file or downloaded; where neither is to be had, others drawn from the grammar,
    and that is said.

    Args:
        data: ``path`` is the file equation2_15_dataset.txt, packed or not, its folder, or another file of expressions;
            empty downloads to the cache; ``"grammar"`` draws others from the grammar, which needs no network.
        progress: told the bytes downloaded.
    Returns:
        One part, to be split 80/10/10.
    Raises:
        DataError: if a given file cannot be read, or holds no expressions.
    """
    lines, record = _read_expressions(data.path, progress)
    scored = [(text, value) for text, value in zip(lines.texts, score(lines.texts), strict=True) if value is not None]
    if not scored:
        raise DataError(f"{lines.name} holds no expressions of the grammar", f"One a line, such as: {TARGET}")
    median = statistics.median(value for _, value in scored)
    kept = [text for text, value in scored if value >= median]
    notes = [f"The worse half: {len(kept):,} of {len(scored):,} expressions, with scores of at least {median:z.4f}."]
    if without := len(lines.texts) - len(scored):
        notes.append(f"Left out: {without:,} lines that are no expressions, or undefined somewhere on the points.")
    part = TextLines(name=lines.name, texts=kept, blob=lines.blob, notes=lines.notes)
    return RawTexts(parts={UNSPLIT: part}, words=WORDS, provenance={**record, "notes": [*record["notes"], *notes]})


def _read_expressions(path: str, progress: Progress | None) -> tuple[TextLines, dict[str, Any]]:
    """All expressions, and their provenance: from a file, downloaded, or drawn from the grammar."""
    if path == TASKS["expressions"].drawn:
        return _draw("as --data grammar asks")
    if path:
        return _with_provenance(read_text_lines(_find_file(require_path(path))), "local file")
    try:
        return _with_provenance(read_text_lines(fetch(REMOTE, timeout=10.0, progress=progress)), "downloaded file")
    except DataError:
        return _draw(f"as {FILE_STEM}.txt could not be downloaded; --data gives a local one")


def _draw(reason: str) -> tuple[TextLines, dict[str, Any]]:
    """Expressions drawn from the grammar by a fixed seed, with their provenance, and why they were."""
    lines = TextLines(name="expressions of the grammar", texts=_draw_texts(EXPRESSIONS))
    note = (
        f"Generated, NOT the published expressions: {EXPRESSIONS:,} others, each uniform among those of at most "
        f"{MAX_PRODUCTIONS} productions, {reason}."
    )
    return lines, {"source": "generated", "exact": False, "substitute": True, "notes": [note]}


@cache  # some seconds
def _draw_texts(count: int) -> list[str]:
    return draw_expressions(count, MAX_PRODUCTIONS, np.random.RandomState(mix_seed(0, "expressions") & 0xFFFFFFFF))


def _find_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in (f"{FILE_STEM}.txt", f"{FILE_STEM}.txt.gz"):
        if (path / name).is_file():
            return path / name
    raise DataError(f"no {FILE_STEM}.txt or .txt.gz in {path}", "Give the file itself, or leave --data out.")


def _with_provenance(lines: TextLines, source: str) -> tuple[TextLines, dict[str, Any]]:
    exact = lines.blob == PUBLISHED_BLOB
    what = "the published expressions (the checksum agrees)" if exact else "NOT the published expressions"
    record = {"source": source, "exact": exact, "substitute": not exact, "notes": [f"{lines.name}: {what}."]}
    return lines, record


def goal(run: Run) -> Goal:
    """The goal of minimizing the distance from the target expression."""
    data = run.config.data
    return Goal(
        name="expressions",
        score=score,
        maximize=False,
        best=0.0,
        known=lambda count, seed: known(count, seed, load_dataset(data, "none", 0, trust=run.trust)),
        summary=f"min(7, log(1 + MSE)) against {TARGET} on 1,000 points of [-10, 10]",
    )


def known(count: int, seed: int, dataset: Dataset) -> tuple[list[str], list[float]]:
    """Training expressions with their scores that a search starts from: a fifth of them the best of 5,000 random ones.

    Source: Tripp et al. (2020) have 1,000 best and 4,000 random ones of 5,000.
    """
    if dataset.vocabulary is None:
        raise DataError("expected a dataset of sequences, got images", "Give a run of the task expressions.")
    rows = torch.randperm(len(dataset.train), generator=generator(seed, "expressions/known"))[: max(KNOWN_POOL, count)]
    texts = [dataset.vocabulary.text(row) for row in dataset.corpus("train")[rows].padded().tolist()]
    values = [MAX_SCORE if value is None else value for value in score(texts)]
    best = sorted(range(len(texts)), key=lambda i: values[i])[: count // BEST_DIVISOR]
    others = [i for i in range(len(texts)) if i not in set(best)][: count - len(best)]
    return [texts[i] for i in best + others], [values[i] for i in best + others]
