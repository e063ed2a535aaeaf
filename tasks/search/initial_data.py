"""A goal over the codes of a model, and codes of data whose values are known beforehand."""

import torch
from torch import Tensor

from lso.black_box.runner import Known
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.space import LatentSpace
from lso.tasks.datasets.packing import encode_lines
from lso.tasks.goals import Goal
from lso.tasks.search.targets import tokenizer_of
from lso.vae.data.dataset import to_unit
from lso.vae.errors import UsageError
from lso.vae.runs import Run
from lso.vae.utils.random import mix_seed
from lso.vae.vocabulary import Vocabulary

ENCODED = 256  # data encoded at once


def goal_objective(
    goal: Goal, decoder: Decoder, space: LatentSpace | None = None, *, prior_weight: float = 0.0
) -> LatentObjective:
    """A goal over the codes of a decoder."""
    objective = LatentObjective(
        decoder,
        goal.score,
        space=space,
        maximize=goal.maximize,
        on=goal.on,
        prior_weight=prior_weight,
        decimals=goal.decimals,
    )
    objective.name = goal.name
    return objective


def known_codes(run: Run, goal: Goal, decoder: Decoder, count: int, seed: int) -> Known:
    """Codes of data whose values are known, for the optimizer to begin with.

    Args:
        run: whose model it is.
        goal: has such data.
        decoder: its encoder gives the codes.
        count: of data.
        seed: of the choice among them.
    Returns:
        ``(k, d)`` posterior means, and values; sequences longer than the model was made for are left out.
    Raises:
        UsageError: if the goal knows nothing beforehand, or there is no encoder.
    """
    if not decoder.has_encoder:
        raise UsageError("the model has no encoder that could place known data", "Leave --known out.")
    x, values = known_data(run, goal, decoder.vocabulary, count, seed)
    return codes_of(decoder, x), values


def known_data(
    run: Run, goal: Goal, vocabulary: Vocabulary | None, count: int, seed: int
) -> tuple[Tensor, list[float]]:
    """Data whose values are known, as a model's encoder takes them.

    Args:
        run: whose model it is.
        goal: has such data.
        vocabulary: the model's, of sequences.
        count: of data.
        seed: of the choice among them.
    Returns:
        ``(k, *event)`` pixels in [0, 1] or token numbers, and values; sequences longer than the model was made for are
        left out.
    Raises:
        UsageError: if the goal knows nothing beforehand.
    """
    if goal.known is None:
        raise UsageError(f"nothing is known beforehand of {goal.name}", "Leave --known out (known=0).")
    data, found = goal.known(count, mix_seed(seed, "known"))
    values = torch.as_tensor(found, dtype=torch.float64)
    if isinstance(data, Tensor):
        return to_unit(data).to(torch.get_default_dtype()), values.tolist()
    assert vocabulary is not None
    corpus, _ = encode_lines(data, vocabulary, tokenizer_of(run, vocabulary.joiner))
    kept = (corpus.lengths <= int(run.info["shape"][0])).nonzero().flatten()
    return corpus[kept].padded(), values[kept].tolist()


@torch.no_grad()
def codes_of(decoder: Decoder, x: Tensor) -> Tensor:
    """Posterior means of data."""
    parts = [decoder.code_means(part) for part in torch.split(x, ENCODED)]
    return torch.cat([part for part in parts if part is not None]).double().cpu()
