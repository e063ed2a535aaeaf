"""Six of GuacaMol's goal-directed benchmarks: scores in [0, 1] of molecules, to be maximized.

Definitions as in the second suite ("v2", the published one) of the ``guacamol`` package, version 0.5.5: targets,
fingerprints, modifiers and means. Similarity is Tanimoto's on count fingerprints, which are not folded. In each the
score is the geometric mean of its terms, so that a term that is 0 makes it 0.

Source: Brown, Fiscato, Segler, Vaucher (2019), arXiv:1811.09621, and the authors' code. Deviations: none known; a
molecule that cannot be read has no score here and -1 there.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from lso.tasks.problems.chemistry import Mol, Property, Score

OSIMERTINIB = "COc1cc(N(C)CCN(C)C)c(NC(=O)C=C)cc1Nc2nccc(n2)c3cn(C)c4ccccc34"
RANOLAZINE = "COc1ccccc1OCC(O)CN2CCN(CC(=O)Nc3c(C)cccc3C)CC2"
PERINDOPRIL = "O=C(OCC)C(NC(C(=O)N1C(C(=O)O)CC2CCCCC12)C)CCC"
ZALEPLON = "O=C(C)N(CC)C1=CC=CC(C2=CC=NC3=C(C=NN23)C#N)=C1"
TADALAFIL = "O=C1N(CC(N2C1CC3=C(C2C4=CC5=C(OCO5)C=C4)NC6=C3C=CC=C6)=O)C"
SILDENAFIL = "CCCC1=NN(C2=C1N=C(NC2=O)C3=C(C=CC(=C3)S(=O)(=O)N4CCN(CC4)C)OCC)C"
SITAGLIPTIN = "NC(CC(=O)N1CCn2c(nnc2C(F)(F)F)C1)Cc1cc(F)c(F)cc1F"
VALSARTAN_PATTERN = "CN(C=O)Cc1ccc(c2ccccc2)cc1"  # substructure that is to occur
ZALEPLON_FORMULA = {"C": 19, "H": 17, "N": 3, "O": 2}  # that zaleplon's likeness is to have

Curve = Callable[[float], float]


# --- how a property becomes a score in [0, 1] -------------------------------------------------------------------------


def bell(x: float, mu: float, sigma: float) -> float:
    """exp(-((x - mu) / sigma)^2 / 2)."""
    return math.exp(-0.5 * ((x - mu) / sigma) ** 2)


def at_most(x: float, mu: float, sigma: float) -> float:
    """1 up to mu, then falling as `bell`."""
    return bell(max(x, mu), mu, sigma)


def at_least(x: float, mu: float, sigma: float) -> float:
    """1 from mu on, falling below it as `bell`."""
    return bell(min(x, mu), mu, sigma)


def ramp(x: float, full: float) -> float:
    """Rising from 0 at 0 to 1 at ``full`` and beyond."""
    return min(max(x / full, 0.0), 1.0)


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product of n values, which is 0 if one of them is."""
    return math.prod(values) ** (1 / len(values))


# --- properties -------------------------------------------------------------------------------------------------------


@cache
def _fingerprint(kind: str) -> Callable[[Mol], Any]:
    """ECFP and FCFP by diameter, or AP: atom pairs at most ten bonds apart."""
    from rdkit.Chem import rdFingerprintGenerator as generators

    if kind == "AP":
        made = generators.GetAtomPairGenerator(maxDistance=10)
    else:
        features = {"atomInvariantsGenerator": generators.GetMorganFeatureAtomInvGen()} if kind[0] == "F" else {}
        made = generators.GetMorganGenerator(radius=int(kind[-1]) // 2, **features)
    found: Callable[[Mol], Any] = made.GetSparseCountFingerprint
    return found


def _similarity(target: str, kind: str, curve: Curve = float) -> Property:
    """The property that is a curve of the Tanimoto similarity to a target molecule."""
    from rdkit import Chem, DataStructs

    fingerprint = _fingerprint(kind)
    wanted = fingerprint(Chem.MolFromSmiles(target))
    return lambda mol: curve(DataStructs.TanimotoSimilarity(fingerprint(mol), wanted))


def _descriptors() -> tuple[Property, Property, Property, Property]:
    """logP (Crippen), polar surface, complexity (Bertz), aromatic rings."""
    from rdkit.Chem import Crippen, GraphDescriptors, rdMolDescriptors

    return Crippen.MolLogP, rdMolDescriptors.CalcTPSA, GraphDescriptors.BertzCT, rdMolDescriptors.CalcNumAromaticRings


def _count_elements(mol: Mol) -> Counter[str]:
    """Number of atoms of each element, implicit hydrogens included."""
    atoms = list(mol.GetAtoms())
    counts = Counter(atom.GetSymbol() for atom in atoms)
    counts["H"] += sum(atom.GetTotalNumHs() for atom in atoms)
    return counts


def _formula_similarity(mol: Mol) -> float:
    """Likeness of a molecular formula: a bell for each element, a wider one for all atoms, their geometric mean."""
    counts = _count_elements(mol)
    bells = [bell(counts[element], count, 1.0) for element, count in ZALEPLON_FORMULA.items()]
    return geometric_mean([*bells, bell(counts.total(), sum(ZALEPLON_FORMULA.values()), 2.0)])


# --- the benchmarks ---------------------------------------------------------------------------------------------------


def _zale() -> list[Property]:
    return [_similarity(ZALEPLON, "ECFP4"), _formula_similarity]


def _pdop() -> list[Property]:
    *_, aromatic = _descriptors()
    return [_similarity(PERINDOPRIL, "ECFP4"), lambda mol: bell(aromatic(mol), 2, 0.5)]


def _osmb() -> list[Property]:
    logp, surface, *_ = _descriptors()
    return [
        _similarity(OSIMERTINIB, "FCFP4", lambda x: ramp(x, 0.8)),
        _similarity(OSIMERTINIB, "ECFP6", lambda x: at_most(x, 0.85, 0.1)),
        lambda mol: at_least(surface(mol), 100, 10),
        lambda mol: at_most(logp(mol), 1, 1),
    ]


def _med2() -> list[Property]:
    return [_similarity(TADALAFIL, "ECFP6"), _similarity(SILDENAFIL, "ECFP6")]


def _valt() -> list[Property]:
    from rdkit import Chem

    pattern, model = Chem.MolFromSmarts(VALSARTAN_PATTERN), Chem.MolFromSmiles(SITAGLIPTIN)
    wanted = [(of, of(model), sigma) for of, sigma in zip(_descriptors(), (0.2, 5.0, 30.0), strict=False)]
    near: list[Property] = [lambda mol, of=of, mu=mu, s=s: bell(of(mol), mu, s) for of, mu, s in wanted]  # type: ignore[misc]
    return [lambda mol: float(mol.HasSubstructMatch(pattern)), *near]


def _rano() -> list[Property]:
    logp, surface, *_ = _descriptors()
    return [
        _similarity(RANOLAZINE, "AP", lambda x: ramp(x, 0.7)),
        lambda mol: at_least(logp(mol), 7, 1),
        lambda mol: bell(_count_elements(mol)["F"], 1, 1),
        lambda mol: at_least(surface(mol), 95, 20),
    ]


BENCHMARKS = {"zale": _zale, "pdop": _pdop, "osmb": _osmb, "med2": _med2, "valt": _valt, "rano": _rano}
SUMMARIES = {
    "zale": "Zaleplon MPO: like zaleplon, with the formula C19H17N3O2",
    "pdop": "Perindopril MPO: like perindopril, with two aromatic rings",
    "osmb": "Osimertinib MPO: like osimertinib but not too much, polar surface over 100, logP under 1",
    "med2": "Median molecules 2: like tadalafil and sildenafil at once",
    "valt": "Valsartan SMARTS: valsartan's pattern with sitagliptin's logP, polar surface and complexity",
    "rano": "Ranolazine MPO: like ranolazine, logP over 7, one fluorine, polar surface over 95",
}


@cache
def _terms(name: str) -> list[Property]:
    return BENCHMARKS[name]()


def score_molecule(name: str, mol: Mol) -> float:
    """The score of a molecule in one of `BENCHMARKS`."""
    return geometric_mean([term(mol) for term in _terms(name)])


zale = Score("zale", partial(score_molecule, "zale"))
pdop = Score("pdop", partial(score_molecule, "pdop"))
osmb = Score("osmb", partial(score_molecule, "osmb"))
med2 = Score("med2", partial(score_molecule, "med2"))
valt = Score("valt", partial(score_molecule, "valt"))
# A search that was begun when another function stood here under the name rano is refused, not gone on with.
rano = Score("rano-v2", partial(score_molecule, "rano"))
