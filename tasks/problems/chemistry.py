"""Reads molecules from SELFIES or SMILES and scores them: drug-likeness and penalized logP, among others.

RDKit and selfies are an optional extra (``lso[molecules]``), imported only when a molecule is read.
"""

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from lso.vae.errors import UsageError

Mol = Any  # of RDKit, whose types are there only with the extra
Property = Callable[[Mol], float]

# Nothing but bracketed symbols and dots. SMILES of bracketed atoms alone, such as [Na+].[Cl-], are read as SELFIES.
SELFIES_PATTERN = re.compile(r"(?:\[[^\[\]]*\]|\.)+")
# logP is nearly additive, so that a bare chain of carbon scores as high as it is long: 38 atoms are the most that a
# molecule of ZINC 250k has, and larger ones have no score.
MAX_HEAVY_ATOMS = 38
# Mean and standard deviation over ZINC 250k of each term of penalized logP (Gomez-Bombarelli et al. 2018, as the
# papers' code has them).
LOGP_MEAN_STD, ACCESSIBILITY_MEAN_STD, RING_MEAN_STD = (
    (2.45777691, 1.43341767),
    (3.05352042, 0.83460587),
    (0.04861121, 0.28746695),
)
MAX_FREE_RING = 6  # atoms of the largest ring that costs nothing
# Of synthetic accessibility, as RDKit's Contrib has them: the range of raw scores that becomes 10 to 1, what a fragment
# that PubChem does not have adds, and the atoms beyond which a ring is a macrocycle.
MIN_RAW_ACCESSIBILITY, MAX_RAW_ACCESSIBILITY, UNKNOWN_FRAGMENT, MAX_RING = -4.0, 2.5, -4.0, 8


def require_chemistry() -> None:
    """Raise an error that says what to install if RDKit or selfies is missing."""
    try:
        for name in ("rdkit", "selfies"):
            import_module(name)
    except ImportError as error:
        raise UsageError(
            f"molecules need the packages rdkit and selfies: {error}", "Install them: pip install 'lso[molecules]'."
        ) from None


def to_smiles(text: str) -> str | None:
    """SMILES of a text in SELFIES or SMILES; None for SELFIES that cannot be read and for text without atoms."""
    if not SELFIES_PATTERN.fullmatch(text):
        return text or None
    from selfies import DecoderError, decoder

    try:
        return decoder(text) or None
    except DecoderError:
        return None


def parse_molecule(text: str) -> Mol | None:
    """Read a molecule with RDKit, whose messages are silenced; None if the text is no molecule."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    written = to_smiles(text)
    with BlockLogs():
        mol = None if written is None else Chem.MolFromSmiles(written)
    return mol if mol is not None and mol.GetNumHeavyAtoms() else None


def canonical_smiles(text: str) -> str | None:
    """RDKit's canonical SMILES, which is the same however a molecule is written; None if the text is no molecule."""
    from rdkit import Chem

    mol = parse_molecule(text)
    return None if mol is None else str(Chem.MolToSmiles(mol))


def score_molecules(of: Callable[[Mol], float | None], objects: Sequence[str]) -> list[float | None]:
    """A property of each molecule in SELFIES or SMILES; None for text that is no molecule, or where it is undefined."""
    require_chemistry()
    return [_score(of, text) for text in objects]


def _score(of: Callable[[Mol], float | None], text: str) -> float | None:
    from rdkit.rdBase import BlockLogs

    try:
        mol = parse_molecule(text)
        with BlockLogs():
            value = None if mol is None else of(mol)
    except Exception:  # RDKit raises many kinds; one strange molecule is not to end a search
        return None
    return float(value) if value is not None and math.isfinite(value) else None


def drug_likeness(mol: Mol) -> float:
    """Quantitative estimate of drug-likeness, in (0, 1), by the installed RDKit.

    Figures of different versions differ: on the first molecule of ZINC 250k 0.732 in 2026, 0.702 in the data set.

    Args:
        mol: molecule of RDKit's.
    Returns:
        QED with the mean weights.
    Source: Bickerton et al. (2012), Nature Chemistry 4. Deviations: RDKit's own.
    """
    from rdkit.Chem import QED

    return float(QED.qed(mol))


def crippen_logp(mol: Mol) -> float:
    """logP, the logarithm of the octanol-water partition coefficient, as a sum over atoms.

    Source: Wildman and Crippen (1999), as RDKit has it.
    """
    from rdkit.Chem import Crippen

    return float(Crippen.MolLogP(mol))


@cache
def _fragments() -> tuple[Mapping[int, float], Any]:
    """The contribution of each fragment, from RDKit's Contrib, and the fingerprint generator that finds fragments."""
    from rdkit.Chem import rdFingerprintGenerator
    from rdkit.Contrib.SA_Score import sascorer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its table's file open
        sascorer.readFragmentScores()
    return sascorer._fscores, rdFingerprintGenerator.GetMorganGenerator(radius=2)


def raw_accessibility(mol: Mol) -> float:
    """Synthetic accessibility before `bound_accessibility`, about 1 to 15: rarity of the fragments, and complexity.

    Source: Ertl and Schuffenhauer (2009), J. Cheminformatics 1:8, in the form of RDKit's Contrib, operation by
    operation, so that figures agree to the last bit.
    """
    from rdkit.Chem import FindMolChiralCenters, rdMolDescriptors

    known, generator = _fragments()
    counts = generator.GetSparseCountFingerprint(mol).GetNonzeroElements()
    score = 0.0
    for fragment, count in counts.items():
        score += known.get(fragment, UNKNOWN_FRAGMENT) * count
    atoms = mol.GetNumAtoms()
    centres = len(FindMolChiralCenters(mol, includeUnassigned=True))
    spiro, bridges = rdMolDescriptors.CalcNumSpiroAtoms(mol), rdMolDescriptors.CalcNumBridgeheadAtoms(mol)
    macrocycle = math.log10(2) if longest_ring(mol) > MAX_RING else 0.0
    penalty = 0.0 - (atoms**1.005 - atoms)
    for term in (math.log10(centres + 1), math.log10(spiro + 1), math.log10(bridges + 1), macrocycle):
        penalty -= term
    symmetry = math.log(float(atoms) / len(counts)) * 0.5 if atoms > len(counts) else 0.0
    score = score / sum(counts.values()) + penalty + symmetry
    return float(11.0 - (score - MIN_RAW_ACCESSIBILITY + 1) / (MAX_RAW_ACCESSIBILITY - MIN_RAW_ACCESSIBILITY) * 9.0)


def bound_accessibility(raw: float) -> float:
    """A score brought into 1 to 10: its own value up to 8, from there on a logarithm, so that it never falls.

        8 + log(raw - 7)  above 8

    RDKit's Contrib takes the logarithm of raw - 8, which starts far below 8 (2.5 for a raw 8.004) where it should go on
    from 8.
    """
    return min(max(raw if raw <= 8.0 else 8.0 + math.log(raw - 7.0), 1.0), 10.0)


def accessibility(mol: Mol) -> float:
    """Synthetic accessibility, from 1 (easy) to 10.

    Source: Ertl and Schuffenhauer (2009), J. Cheminformatics 1:8, as in RDKit's Contrib. Deviations: above 8, see
    `bound_accessibility`. Published figures were made with RDKit's, which are the same up to 8 (in ZINC 250k
    everywhere) and too low above: by 7 just above 8, by 0.4 for a raw 10.
    """
    return bound_accessibility(raw_accessibility(mol))


def longest_ring(mol: Mol) -> int:
    """Number of atoms in the largest ring of RDKit's smallest set of smallest rings.

    The papers take the longest cycle of networkx's cycle basis, which depends on the order of the atoms. Over ZINC 250k
    it is larger in 1,226 of 249,455 molecules, most of them bridged, and equal in the others.
    """
    return max(map(len, mol.GetRingInfo().AtomRings()), default=0)


def penalized_logp(mol: Mol) -> float | None:
    """logP minus synthetic accessibility and a penalty of large rings, each standardized over ZINC 250k.

        (logP - 2.458) / 1.433 - (SA - 3.054) / 0.835 - (max(0, ring - 6) - 0.049) / 0.287

    Args:
        mol: molecule of RDKit's.
    Returns:
        The score; None above 38 heavy atoms, see `MAX_HEAVY_ATOMS`.
    Source: Gomez-Bombarelli et al. (2018), arXiv:1610.02415; constants and form of the authors' code, as in Jin et al.
    (2018) and Tripp et al. (2020). Deviations: the cap, the ring (see `longest_ring`), and accessibility above 8 (see
    `accessibility`), where published figures are too high, by up to 8.4.
    """
    if mol.GetNumHeavyAtoms() > MAX_HEAVY_ATOMS:
        return None
    ring = max(0, longest_ring(mol) - MAX_FREE_RING)
    terms = (
        (crippen_logp(mol), LOGP_MEAN_STD, 1),
        (accessibility(mol), ACCESSIBILITY_MEAN_STD, -1),
        (ring, RING_MEAN_STD, -1),
    )
    return math.fsum(sign * (value - mean) / deviation for value, (mean, deviation), sign in terms)


@dataclass(frozen=True, slots=True)
class Score:
    """A score of molecules with its name and direction, which can be pickled.

    Args:
        name: name of the score.
        of: function from a molecule to a number, or None where it has none.
        maximize: whether larger values are better.
    """

    name: str
    of: Callable[[Mol], float | None]
    maximize: bool = True

    def __call__(self, objects: Sequence[str]) -> list[float | None]:
        """`score_molecules` of SELFIES or SMILES."""
        return score_molecules(self.of, objects)

    @property
    def __name__(self) -> str:
        return self.name


qed = Score("qed", drug_likeness)
plogp = Score("plogp", penalized_logp)
