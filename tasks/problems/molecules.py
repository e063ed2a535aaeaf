"""The task `molecules`: molecules as SELFIES, by default ZINC 250k, and the goals of searches among them."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from lso.tasks.datasets.download import Progress, RemoteFile, bytes_hash, cache_folder, fetch, file_hash
from lso.tasks.datasets.line_reader import TextLines, read_unpacked
from lso.tasks.datasets.splits import SPLIT_SEED, UNSPLIT, permutation, plan_splits
from lso.tasks.datasets.text_dataset import RawTexts
from lso.tasks.goals import Goal
from lso.tasks.problems.chemistry import Score, require_chemistry
from lso.tasks.problems.molecule_files import (
    Molecules,
    encode_selfies,
    is_selfies,
    read_molecules,
    read_tokens,
    write_tokens,
)
from lso.tasks.problems.molecule_scores import SCORES, SUMMARIES
from lso.tasks.task import fill_defaults, require_path
from lso.tasks.training.experiment import reload_dataset
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import DataError
from lso.vae.runs import Run
from lso.vae.utils.random import generator

ZINC = RemoteFile(
    name="molecules/250k_rndm_zinc_drugs_clean_3.csv",
    urls=(
        "https://raw.githubusercontent.com/aspuru-guzik-group/chemical_vae/master/models/zinc_properties/"
        "250k_rndm_zinc_drugs_clean_3.csv",
    ),
    checksums=("blob:d31726bf929d35cb52fa109db90411c90a000dfe",),
)
ZINC_MOLECULES = 249_455  # in ZINC 250k
TEST_MOLECULES, VALIDATION_MOLECULES = 5_000, 24_445  # the splits of Jin et al. (2018)
SPLIT_DESCRIPTION = (
    f"sizes of JT-VAE: the first {TEST_MOLECULES:,} molecules are its test part; {VALIDATION_MOLECULES:,} of the "
    f"others, shuffled with seed {SPLIT_SEED}, are validation, as its list is not at hand"
)


# --- the data ---------------------------------------------------------------------------------------------------------


def load(data: DataConfig, progress: Progress | None = None) -> RawTexts:
    """ZINC 250k, or the user's molecules, as SELFIES.

    What a file's SMILES become is kept in the cache folder by the file's checksum, so that the minutes that it takes
    are spent once.

    Args:
        data: ``path`` is empty (ZINC 250k, downloaded), a .csv with columns ``smiles`` and perhaps ``split``, a text
            file of SMILES or SELFIES, either packed with gzip or not, or an .npz of `molecule_files.write_tokens`.
            Under a ``limit``, no other molecules of it are written as SELFIES.
        progress: told the bytes downloaded and the molecules written as SELFIES.
    Returns:
        The parts; provenance has what was left out, and of which versions it is.
    Raises:
        UsageError: if SMILES are to be written as SELFIES and the extra is not installed.
        DataError: if the file cannot be had or read.
    Source: Gomez-Bombarelli et al. (2018), arXiv:1610.02415; parts of Jin et al. (2018), arXiv:1802.04364; SELFIES of
    Krenn et al. (2020), arXiv:1905.13741. Deviations: see `SPLIT_DESCRIPTION`, where the file has no column ``split``.
    """
    path = require_path(data.path) if data.path else fetch(ZINC, progress=progress)
    carried = path.suffix.lower() == ".npz"
    limit = data.limit if fill_defaults(data).limited == "read" else 0
    molecules = read_tokens(path) if carried else _read_text_file(path, limit, progress)
    record = {"source": "a local file" if data.path else "downloaded", **molecules.record}
    blob = file_hash(path, "blob") if carried else str(record["blob"])
    parts = {
        part: TextLines(name=f"{path.name} {part}", texts=texts, blob=blob) for part, texts in molecules.parts.items()
    }
    return RawTexts(parts=parts, provenance=record)


def write(source: str | Path, target: str | Path, progress: Progress | None = None) -> None:
    """Tokenize molecules and write them as one file, for a machine without RDKit and selfies."""
    texts = load(DataConfig(task="molecules", path=str(source)), progress)
    parts = {part: lines.texts for part, lines in texts.parts.items()}
    write_tokens(Molecules(parts=parts, record=texts.provenance), target)


def _read_text_file(path: Path, limit: int, progress: Progress | None) -> Molecules:
    raw = read_unpacked(path)
    blob = bytes_hash(raw, "blob")
    kept = cache_folder() / "molecules" / f"selfies-{blob}{f'-{limit}' if limit else ''}.npz"
    if kept.is_file():
        with suppress(DataError):  # a damaged one is made again
            return read_tokens(kept)
    molecules = _assign_zinc_splits(read_molecules(raw, path.name))
    molecules = Molecules(parts=molecules.parts, record={**molecules.record, "file": path.name, "blob": blob})
    if is_selfies(molecules):
        return molecules
    made = encode_selfies(_limit_molecules(molecules, limit), path.name, progress)
    write_tokens(made, kept)
    return made


def _limit_molecules(molecules: Molecules, limit: int) -> Molecules:
    """The molecules of a file that a limit keeps, so that no time is spent on encoding the others."""
    if not limit:
        return molecules
    sizes = {part: len(texts) for part, texts in molecules.parts.items()}
    cut = plan_splits(sizes, {}, limit=limit, how=molecules.record.get("split", ""), kind="sequence")
    rows = {part: index.tolist() for part, index in cut.rows.items()}
    parts = {part: [molecules.parts[cut.origin[part]][row] for row in rows[part]] for part in rows}
    return Molecules(parts=parts, record={**molecules.record, "split": cut.record["how"]})


def _assign_zinc_splits(molecules: Molecules) -> Molecules:
    """Split the whole of ZINC 250k as JT-VAE does, if it comes without splits; other molecules are left as they are."""
    if molecules.parts.keys() != {UNSPLIT} or len(molecules.parts[UNSPLIT]) != ZINC_MOLECULES:
        return molecules
    texts = molecules.parts[UNSPLIT]
    held = {
        TEST_MOLECULES + row
        for row in permutation(ZINC_MOLECULES - TEST_MOLECULES, "split/molecules")[:VALIDATION_MOLECULES].tolist()
    }
    parts = {
        "train": [texts[row] for row in range(TEST_MOLECULES, ZINC_MOLECULES) if row not in held],
        "validation": [texts[row] for row in sorted(held)],
        "test": texts[:TEST_MOLECULES],
    }
    return Molecules(parts=parts, record={**molecules.record, "split": SPLIT_DESCRIPTION})


# --- the goals --------------------------------------------------------------------------------------------------------

KNOWN_POOL = 5_000  # training molecules that are scored for `known`: seconds, where all of them would take minutes


def known(run: Run, score: Score, count: int, seed: int) -> tuple[list[str], list[float]]:
    """Initial data of a search: training molecules and their scores, a fifth of them the best of 5,000 random ones."""
    dataset = reload_dataset(run)
    corpus, vocabulary = dataset.corpus("train"), dataset.vocabulary
    assert vocabulary is not None, "a corpus comes with one"
    rows = torch.randperm(len(corpus), generator=generator(seed, "molecules/known"))[: max(KNOWN_POOL, count)]
    texts = [vocabulary.text(corpus[row].tolist()) for row in rows.tolist()]
    scored = [(text, value) for text, value in zip(texts, score(texts), strict=True) if value is not None]
    order = sorted(range(len(scored)), key=lambda i: -scored[i][1])
    best = order[: count // 5]
    taken = set(best)
    chosen = [*best, *(i for i in range(len(scored)) if i not in taken)][:count]
    return [scored[i][0] for i in chosen], [scored[i][1] for i in chosen]


def goal(name: str, run: Run) -> Goal:
    """The goal of maximizing a row of `SCORES` over the molecules that a model decodes."""
    require_chemistry()
    return Goal(
        name=name,
        score=SCORES[name],
        maximize=SCORES[name].maximize,
        known=partial(known, run, SCORES[name]),
        summary=SUMMARIES[name],
    )


qed = partial(goal, "qed")
plogp = partial(goal, "plogp")
zale = partial(goal, "zale")
pdop = partial(goal, "pdop")
osmb = partial(goal, "osmb")
med2 = partial(goal, "med2")
valt = partial(goal, "valt")
rano = partial(goal, "rano")
GOALS: Mapping[str, str] = {name: f"lso.tasks.problems.molecules:{name}" for name in SCORES}  # each (Run) -> Goal
