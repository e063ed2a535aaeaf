"""Goals as objectives over the codes of a model, and initial data of searches: codes of data with known values."""

import torch
from torch import Tensor

from lso.black_box.runner import Known
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.space import LatentSpace
from lso.tasks.datasets.packing import encode_lines
from lso.tasks.goals import Goal
from lso.tasks.search.targets import tokenizer_for_run
from lso.vae.data.dataset import to_unit
from lso.vae.errors import UsageError
from lso.vae.runs import Run
from lso.vae.utils.random import mix_seed
from lso.vae.vocabulary import Vocabulary

ENCODING_BATCH = 256  # data encoded at once


def goal_objective(
    goal: Goal, decoder: Decoder, space: LatentSpace | None = None, *, prior_weight: float = 0.0
) -> LatentObjective:
    """The objective of a goal over the codes of a decoder."""
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
    """Posterior means ``(k, d)`` of up to ``count`` data with known values, and these values; see `known_data`."""
    if not decoder.has_encoder:
        raise UsageError("the model has no encoder that could place known data", "Leave --known out.")
    x, values = known_data(run, goal, decoder.vocabulary, count, seed)
    return encode_means(decoder, x), values


def known_data(
    run: Run, goal: Goal, vocabulary: Vocabulary | None, count: int, seed: int
) -> tuple[Tensor, list[float]]:
    """Up to ``count`` data with known values, ``(k, *event)`` as the model's encoder takes them, and these values.

    Sequences longer than the model was made for are left out.
    """
    if goal.known is None:
        raise UsageError(f"there are no data with known values for {goal.name}", "Leave --known out (known=0).")
    data, found = goal.known(count, mix_seed(seed, "known"))
    values = torch.as_tensor(found, dtype=torch.float64)
    if isinstance(data, Tensor):
        return to_unit(data).to(torch.get_default_dtype()), values.tolist()
    assert vocabulary is not None
    corpus, _ = encode_lines(data, vocabulary, tokenizer_for_run(run, vocabulary.joiner))
    kept = (corpus.lengths <= int(run.info["shape"][0])).nonzero().flatten()
    return corpus[kept].padded(), values[kept].tolist()


@torch.no_grad()
def encode_means(decoder: Decoder, x: Tensor) -> Tensor:
    """Encode data to posterior means, in double on the CPU."""
    parts = [decoder.code_means(part) for part in torch.split(x, ENCODING_BATCH)]
    return torch.cat([part for part in parts if part is not None]).double().cpu()
