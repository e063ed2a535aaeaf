"""The scores of molecules by name, which are the goals of the task ``molecules``. Imports neither torch nor RDKit."""

from collections.abc import Mapping

from lso.tasks.problems import chemistry, guacamol
from lso.tasks.problems.chemistry import MAX_HEAVY_ATOMS, Score
from lso.vae.errors import UsageError, unknown_name

SCORES: Mapping[str, Score] = {
    "qed": chemistry.qed,
    "plogp": chemistry.plogp,
    "zale": guacamol.zale,
    "pdop": guacamol.pdop,
    "osmb": guacamol.osmb,
    "med2": guacamol.med2,
    "valt": guacamol.valt,
    "rano": guacamol.rano,
}
SUMMARIES: Mapping[str, str] = {
    "qed": "drug-likeness (QED), in (0, 1)",
    "plogp": f"penalized logP; more than {MAX_HEAVY_ATOMS} heavy atoms, the most that ZINC 250k has, are invalid",
    **guacamol.SUMMARIES,
}


def score_smiles(goal: str, smiles: str) -> float | None:
    """The score of one molecule, as a search for ``molecules:GOAL`` would give it.

    For many molecules, ``SCORES[goal]`` takes a list.

    Args:
        goal: row of `SCORES`: ``qed``, ``plogp``, ``zale``, ``pdop``, ``osmb``, ``med2``, ``valt`` or ``rano``.
        smiles: SMILES of the molecule; SELFIES are read too.
    Returns:
        The score, larger being better; None for text that is no molecule, or a molecule without such a score.
    Raises:
        UsageError: if there is no such goal, ``smiles`` is no text, or RDKit and selfies are not installed.
    """
    if goal not in SCORES:
        raise unknown_name("goal of task molecules", goal, SCORES)
    if not isinstance(smiles, str):
        raise UsageError(
            f"expected one SMILES, got {type(smiles).__name__}", f"Of many: molecule_scores.SCORES[{goal!r}](list)."
        )
    return SCORES[goal]([smiles])[0]
