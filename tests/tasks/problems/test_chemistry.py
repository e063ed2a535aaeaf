"""Scores of molecules: against the figures of ZINC 250k, published ones, and RDKit's own."""

import csv
import gzip
import math
import pickle
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("rdkit", reason="extra lso[molecules]")
pytest.importorskip("selfies", reason="extra lso[molecules]")

from lso.tasks.problems import chemistry, guacamol
from lso.tasks.problems.chemistry import (
    ACCESSIBILITY_MEAN_STD,
    LOGP_MEAN_STD,
    MAX_FREE_RING,
    RING_MEAN_STD,
    bound_accessibility,
    parse_molecule,
    raw_accessibility,
    require_chemistry,
    score_molecules,
)
from lso.tasks.problems.molecule_scores import SCORES
from lso.vae.errors import UsageError

Find = Callable[[str], Path]
ZINC = "zinc250k.csv.gz"


@pytest.fixture(scope="module")
def zinc(request: pytest.FixtureRequest) -> list[dict[str, str]]:
    """The first 2,000 rows."""
    with gzip.open(request.getfixturevalue("data_path")(ZINC), "rt") as file:
        return list(islice(csv.DictReader(file), 2000))


@pytest.mark.parametrize(
    ("column", "of"),
    [("logP", chemistry.crippen_logp), ("SAS", chemistry.accessibility), ("qed", chemistry.drug_likeness)],
)
def test_properties_are_those_of_the_data_set(
    zinc: list[dict[str, str]], column: str, of: Callable[[Any], float]
) -> None:
    """Five significant digits are all that the file has."""
    rows = zinc[:500] if column == "qed" else zinc
    found = score_molecules(of, [row["smiles"] for row in rows])
    assert found == pytest.approx([float(row[column]) for row in rows], rel=5e-5)


def test_rings_are_those_of_the_cycle_basis_but_for_bridges(zinc: list[dict[str, str]]) -> None:
    """Smallest rings are never larger; of all 249,455 molecules of ZINC 250k 1,226 differ."""
    pairs = [(chemistry.longest_ring(parse_molecule(row["smiles"])), int(row["max_cycle"])) for row in zinc]
    assert all(ours <= theirs for ours, theirs in pairs)
    assert sum(ours != theirs for ours, theirs in pairs) <= 20


def test_penalized_logp_of_the_best_of_zinc_is_as_published() -> None:
    """4.52, 4.30 and 4.23 are the best three of ZINC 250k (You et al. 2018, arXiv:1806.02473, table 1)."""
    best = [
        "COc1ccc(-c2cc(-c3ccccc3)cc(-c3ccc(Br)cc3)[o+]2)cc1",
        "COc1ccc(-c2cc(-c3ccccc3)cc(-c3ccc(I)cc3)[o+]2)cc1",
        "FC(F)(F)c1cccc(Nc2scc(-c3ccc(Cl)cc3)[n+]2CCc2ccccc2)c1",
    ]
    assert chemistry.plogp(best) == pytest.approx([4.52, 4.30, 4.23], abs=0.005)


def test_penalized_logp_grows_along_a_chain_up_to_the_cap() -> None:
    chains = chemistry.plogp(["C" * count for count in (10, 20, 38, 39, 60)])
    assert chains[3:] == [None, None]
    low, middle, top = (value for value in chains[:3] if value is not None)
    assert low < middle < top and top > 4.52  # longer than any of ZINC is better than all of ZINC


# --- synthetic accessibility ------------------------------------------------------------------------------------------

JUST_ABOVE_8 = "FB[C@@H]1CC[CH]B[PH]1=C1[C][CH]NP1N[CH][CH][C]=CSCl"


def strange(count: int) -> list[Any]:
    """Molecules of random SELFIES, a good part of them hard to make."""
    from selfies import decoder, get_semantic_robust_alphabet

    symbols = sorted(get_semantic_robust_alphabet())
    stream = random.Random(0)
    texts = ["".join(stream.choices(symbols, k=stream.randint(5, 60))) for _ in range(count)]
    return [mol for text in texts if (mol := parse_molecule(decoder(text) or "?")) is not None]


def test_accessibility_goes_on_from_8_where_rdkits_dips() -> None:
    mol = parse_molecule(JUST_ABOVE_8)
    assert raw_accessibility(mol) == pytest.approx(8.006, abs=5e-4)
    assert chemistry.accessibility(mol) == bound_accessibility(raw_accessibility(mol)) > 8
    assert bound_accessibility(raw_accessibility(mol)) == pytest.approx(
        8 + math.log(1 + raw_accessibility(mol) - 8), rel=1e-12
    )
    assert chemistry.penalized_logp(mol) == pytest.approx(-5.66, abs=0.005)
    assert chemistry.plogp([JUST_ABOVE_8]) == [chemistry.penalized_logp(mol)]


def test_accessibility_is_rdkits_but_for_its_last_logarithm(zinc: list[dict[str, str]]) -> None:
    """Bit for bit, up to 8 of RDKit's own and above of RDKit's with the logarithm's off-by-one mended in its source."""
    from rdkit.Contrib.SA_Score import sascorer

    path, mended = Path(sascorer.__file__), ModuleType("mended")
    source = path.read_text()
    assert source.count("math.log(sascore + 1. - 9.)") == 1
    mended.__file__ = str(path)
    exec(source.replace("math.log(sascore + 1. - 9.)", "math.log(sascore + 1. - 8.)"), mended.__dict__)
    mols = [*(parse_molecule(row["smiles"]) for row in zinc[:100]), *strange(400)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # its table's file
        ours, theirs = [chemistry.accessibility(mol) for mol in mols], [mended.calculateScore(mol) for mol in mols]
        old = [sascorer.calculateScore(mol) for mol in mols]
    assert ours == theirs
    easy = [raw_accessibility(mol) <= 8 for mol in mols]
    assert [a for a, low in zip(ours, easy, strict=True) if low] == [a for a, low in zip(old, easy, strict=True) if low]
    assert 30 < easy.count(False) < len(easy) - 200  # both kinds are among them


def test_accessibility_never_falls_and_never_jumps_with_the_raw_score() -> None:
    raw = [n / 1000 for n in range(-2000, 20_000)] + [math.nextafter(8, 0), 8.0, math.nextafter(8, 9), 7 + math.e**2]
    found = [bound_accessibility(x) for x in sorted(raw)]
    rises = [b - a for a, b in pairwise(found)]
    assert min(rises) >= 0 and max(rises) <= 0.001 + 1e-12  # no steeper than the raw score itself
    assert (found[0], bound_accessibility(5.25), bound_accessibility(8.0), found[-1]) == (1, 5.25, 8, 10)


def test_penalized_logp_rises_for_no_molecule_as_it_gets_harder_to_make() -> None:
    """The bonus that a dip gave: with all else equal, the harder molecule scores no more."""
    for mol in strange(300):
        if (found := chemistry.penalized_logp(mol)) is not None:
            easy = (chemistry.crippen_logp(mol) - LOGP_MEAN_STD[0]) / LOGP_MEAN_STD[1] + RING_MEAN_STD[
                0
            ] / RING_MEAN_STD[1]
            assert (
                found
                <= easy
                - (min(raw_accessibility(mol), 8) - ACCESSIBILITY_MEAN_STD[0]) / ACCESSIBILITY_MEAN_STD[1]
                + 1e-9
            )


# --- rings, texts, errors ---------------------------------------------------------------------------------------------


def test_a_large_ring_costs_its_atoms_beyond_six() -> None:
    """Cyclodecane's largest ring has 4 atoms more than 6."""
    ring = chemistry.longest_ring(parse_molecule("C1CCCCCCCCC1"))
    assert ring - MAX_FREE_RING == 4 and chemistry.longest_ring(parse_molecule("CCC")) == 0


def test_what_is_no_molecule_has_no_score_and_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    strange = ["", "C1CC", "c1cccc", "[C][Nonsense]", "<unk>", "F(F)F", "[nop]", "[H][H]"]
    for name, score in SCORES.items():
        assert score(strange) == [None] * len(strange), name
    assert capfd.readouterr() == ("", "")


def test_selfies_and_smiles_of_a_molecule_score_the_same() -> None:
    from selfies import encoder

    texts = [guacamol.OSIMERTINIB, guacamol.SITAGLIPTIN]
    for name, score in SCORES.items():
        assert score([encoder(text) for text in texts]) == pytest.approx(score(texts), rel=1e-12), name


def test_scores_can_be_pickled() -> None:
    for score in SCORES.values():
        assert pickle.loads(pickle.dumps(score))(["CCO"]) == score(["CCO"])


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(UsageError, match=r"rdkit and selfies.*\nInstall them: pip install 'lso\[molecules\]'"):
        require_chemistry()


def test_without_a_score_no_chemistry_is_imported() -> None:
    code = "import sys, lso.tasks.problems.guacamol; assert not {'rdkit', 'selfies'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
