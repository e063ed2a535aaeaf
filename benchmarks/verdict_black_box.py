"""Black-box searches whose optimum is known, of which it is known whether their result deserves belief.

**The truth of a group of searches.** The regret of its median best, best value known less value found, as a share of
what blind drawing leaves: the median regret of 400 searches that draw their codes from the prior, as many as the
judged search scored. *Believe*: at most `BETTER` of it, or at most `HIT` of the way from the median draw to the
optimum. *Do not*: as much as blind drawing leaves, or more, and no hit; or, by construction, the decoder is no function
of the code alone. Between the two neither, and so is `random` itself, which is blind drawing: they count as wrong where
they are believed without reserve. Why that is right: that an optimizer found something means that it found more than
the same number of draws would have; the optimum is known in closed form, or since the target was decoded from a known
code. The verdict knows neither the optimum nor the 400 searches.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from verdict_models import trained
from verdict_targets import WRAPPERS, Truth, Wrapped

import lso
from lso._botorch import importing_botorch
from lso.analysis import black_box_summary as black_box_analysis
from lso.analysis.black_box_summary import BlackBoxSummary, black_box_summary
from lso.black_box.ask_tell import BlackBox, History, Proposal, make_optimizer
from lso.black_box.bayesopt.candidates import restrict_to_chart
from lso.vae.runs import INFO
from lso.vae.utils.random import generator

BETTER, HIT = 0.5, 0.02  # shares of blind drawing's regret; of the way from the median draw to the optimum
BLIND = 400  # searches by blind drawing
DESIGN = 10  # draws before a broken optimizer breaks
SEEDS, BATCH = 3, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Quest:
    """A group of black-box searches.

    Args:
        problem: row of `PROBLEMS`, or ``model:number`` for the digit that a model decodes from its draw of that number.
        optimizer: of lso, or row of `BROKEN`.
        budget: objects.
        wrapped: row of `verdict_targets.WRAPPERS`; empty for the decoder as it is.
    """

    problem: str
    optimizer: str
    budget: int = 40
    wrapped: str = ""


# --- problems ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is sought.

    Args:
        decoder: what turns codes into what is scored.
        score: to be minimized.
        optimum: its least value.
    """

    decoder: lso.Decoder
    score: Callable[[Tensor], Tensor]
    optimum: float


def _bowl(dim: int, turn: float = 1.0) -> Callable[[], Problem]:
    """A quadratic through an affine map, its optimum at a typical code."""

    def make() -> Problem:
        stream = generator(dim, "study/bowl")
        matrix = torch.linalg.qr(torch.randn(dim, dim, generator=stream, dtype=torch.float64)).Q
        scale = turn ** torch.linspace(-1, 1, dim, dtype=torch.float64)
        at = torch.randn(dim, generator=stream, dtype=torch.float64)
        decoder = lso.Decoder(lambda z: ((z - at.to(z)) @ matrix.to(z)) * scale.to(z), latent_dim=dim)
        return Problem(decoder=decoder, score=lambda x: x.square().sum(-1), optimum=0.0)

    return make


def _known(name: str, **options: Any) -> Callable[[], Problem]:
    """A test function of botorch over [-3, 3]^d."""

    def make() -> Problem:
        with importing_botorch():
            from botorch import test_functions
        found = getattr(test_functions, name)(**options).double()
        lower, upper = found.bounds
        decoder = lso.Decoder(lambda z: (z.double() + 3) / 6, latent_dim=found.dim)
        # Codes outside the box are scored at its edge.
        inside: Callable[[Tensor], Tensor] = lambda u: lower + u.double().clamp(0, 1) * (upper - lower)  # noqa: E731
        score: Callable[[Tensor], Tensor] = lambda u: found.evaluate_true(inside(u))  # noqa: E731
        return Problem(decoder=decoder, score=score, optimum=found.optimal_value)

    return make


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "bowl-2": _bowl(2),
    "bowl-5": _bowl(5, 2.0),
    "bowl-12": _bowl(12),
    "branin": _known("Branin"),
    "hartmann6": _known("Hartmann", dim=6),
    "ackley4": _known("Ackley", dim=4, bounds=[(-5.0, 10.0)] * 4),
}


def problem_of(quest: Quest, out: Path) -> Problem:
    """The problem of a case.

    Args:
        quest: names it.
        out: of the study.
    Returns:
        The problem.
    """
    if quest.problem in PROBLEMS:
        return PROBLEMS[quest.problem]()
    name, _, number = quest.problem.partition(":")
    plain = lso.Decoder(trained(name, out).model("cpu"))
    z = torch.randn(1, plain.latent_dim, dtype=torch.float64, generator=generator(int(number), "study/sought"))
    sought = plain.decode(z)
    assert isinstance(sought, Tensor)
    model = trained(name, out).model("cpu")
    decoder = lso.Decoder(Wrapped(model, WRAPPERS[quest.wrapped]())) if quest.wrapped else lso.Decoder(model)
    return Problem(decoder=decoder, score=lambda x: (x - sought.to(x)).square().flatten(1).sum(1), optimum=0.0)


# --- optimizers that are broken ---------------------------------------------------------------------------------------


def _after_design(space: lso.LatentSpace, then: Proposal) -> Proposal:
    """Prior draws, as many as a design has, then something else."""

    def propose(history: History, n: int, seed: int) -> Tensor:
        if len(history.z) >= DESIGN:
            return then(history, n, seed)
        return restrict_to_chart(space, space.sample(n, "prior", generator(seed, "study/design")))

    return propose


def _around(at: Callable[[History], Tensor], width: float) -> Proposal:
    def propose(history: History, n: int, seed: int) -> Tensor:
        around = at(history)[None].expand(n, -1)
        step = torch.randn(around.shape, dtype=torch.float64, generator=generator(seed, "study/around"))
        return history.space.clip(around + width * step)

    return propose


def _worst(history: History) -> Tensor:
    return history.z[int(history.gain.nan_to_num(nan=math.inf).argmin())]


def _corners(history: History, n: int, seed: int) -> Tensor:
    u = torch.rand(n, history.space.dim, dtype=torch.float64, generator=generator(seed, "study/corner"))
    return torch.where(u < 0.5, history.space.bounds[0], history.space.bounds[1])


def _wrong_sign(name: str) -> Callable[[lso.LatentSpace], Proposal]:
    def build(space: lso.LatentSpace) -> Proposal:
        right = make_optimizer(name, space, guard=None) if name != "cmaes" else make_optimizer(name, space)
        return lambda history, n, seed: right._propose(replace(history, gain=-history.gain), n, seed)

    return build


def _shuffled(space: lso.LatentSpace) -> Proposal:
    """Told the values of other points."""
    right = make_optimizer("turbo", space, guard=None)

    def propose(history: History, n: int, seed: int) -> Tensor:
        order = torch.randperm(len(history.gain), generator=generator(seed, "study/shuffled"))
        return right._propose(replace(history, gain=history.gain[order]), n, seed)

    return propose


BROKEN: dict[str, Callable[[lso.LatentSpace], Proposal]] = {
    "stuck": lambda space: _after_design(space, _around(lambda history: history.z[0], 0.02)),
    "constant": lambda space: _after_design(space, _around(lambda history: history.z[0], 0.0)),
    "to-the-worst": lambda space: _after_design(space, _around(_worst, 0.3)),
    "corners": lambda space: _after_design(space, _corners),
    "wrong-sign-turbo": _wrong_sign("turbo"),
    "wrong-sign-cmaes": _wrong_sign("cmaes"),
    "shuffled": _shuffled,
}


def _box(quest: Quest, space: lso.LatentSpace, seed: int) -> BlackBox:
    if quest.optimizer in BROKEN:
        propose = BROKEN[quest.optimizer](space)
        return BlackBox(quest.optimizer, space, propose, seed=seed, maximize=False, settings={"initial": DESIGN})
    # Of gp a fit in a tenth of its usual time.
    options: dict[str, Any] = {"restarts": 2, "raw_samples": 64} if quest.optimizer == "gp" else {}
    options |= {"guard": None} if quest.optimizer in ("gp", "turbo") and quest.problem in PROBLEMS else {}
    return make_optimizer(quest.optimizer, space, seed=seed, maximize=False, **options)


# --- search, truth ----------------------------------------------------------------------------------------------------


def quested(name: str, quest: Quest, out: Path) -> tuple[BlackBoxSummary, Truth]:
    """Search with three seeds, and say what is true of it.

    Args:
        name: of the case.
        quest: the case.
        out: of the study.
    Returns:
        All numbers of its report, with the verdict; and the truth.
    """
    results = []
    for seed in range(SEEDS):
        found = problem_of(quest, out)  # anew, so that what a decoder keeps from one search does not reach the next
        objective = lso.LatentObjective(found.decoder, found.score, maximize=False)
        box = _box(quest, objective.space, seed)
        # Recorded, so that judging by another rule asks and fits nothing again; what a decoder keeps is not recorded.
        folder = None if quest.wrapped else out / "searches" / f"{name.replace('/', '+').replace(':', '-')}-{seed}"
        again = folder is not None and (folder / INFO).is_file()
        limits = {"max_calls": 4 * quest.budget, "patience": 60}
        results.append(lso.optimize(objective, box, quest.budget, BATCH, out=folder, resume=again, **limits))
    model = trained(quest.problem.partition(":")[0], out) if quest.problem not in PROBLEMS else None
    ours = model is not None and not quest.wrapped
    told = {"codes": model.codes(), "verdict": model.verdict} if ours and model is not None else {}
    # A surrogate that nobody searched by takes ten seconds to fit, and at most has "believe" become "with care".
    fitted = quest.optimizer in ("gp", "turbo")
    with nullcontext() if fitted else patch.object(black_box_analysis, "calibrate_evaluations", lambda *_: None):
        summary = black_box_summary(results, **told)
    if quest.wrapped:
        why = f"by construction: the decode is not the code's alone ({quest.wrapped})"
        return summary, Truth(says="doubt", why=why)
    scored = max(1, round(sum(int(r.counters["unique"]) for r in results) / SEEDS))
    return summary, truth_of(quest, problem_of(quest, out), [r.best_value for r in results], max(scored, quest.budget))


def truth_of(quest: Quest, problem: Problem, best: list[float], scored: int) -> Truth:
    """What is true of a group of searches.

    Args:
        quest: the case.
        problem: that was searched.
        best: value of each search.
        scored: draws of each blind search.
    Returns:
        The truth.
    """
    objective = lso.LatentObjective(problem.decoder, problem.score, maximize=False)
    stream = generator(0, "study/blind")
    with torch.no_grad():
        draws = [objective(objective.space.clip(objective.space.sample(scored, "prior", stream))) for _ in range(BLIND)]
    blind = float(torch.stack([values.min() for values in draws]).median()) - problem.optimum
    middle = float(torch.cat(draws).median()) - problem.optimum
    regret = float(torch.tensor(best, dtype=torch.float64).median()) - problem.optimum
    share, way = regret / max(blind, 1e-12), regret / max(middle, 1e-12)
    says = "believe" if share <= BETTER or way <= HIT else "doubt" if share >= 1 else "neither"
    says = "neither" if quest.optimizer == "random" and says == "doubt" else says
    why = f"regret {regret:.3g}, of blind drawing {blind:.3g}, of the median draw {middle:.3g}"
    return Truth(says=says, why=why, numbers={"regret": regret, "blind": blind, "share": share, "way": way})


# --- cases ------------------------------------------------------------------------------------------------------------


def _quests() -> dict[str, Quest]:
    found: dict[str, Quest] = {}

    def add(**settings: Any) -> None:
        quest = Quest(**settings)
        parts = [quest.problem, quest.wrapped, quest.optimizer]
        parts += [f"budget-{quest.budget}"] if quest.budget != 40 else []
        found["black-box/" + "/".join(filter(None, parts))] = quest

    for problem in (*PROBLEMS, "mlp-good:0", "mlp-se:1"):
        for optimizer in ("turbo", "cmaes", "stuck", "wrong-sign-cmaes"):
            add(problem=problem, optimizer=optimizer)
    for problem in ("bowl-5", "hartmann6", "mlp-good:0"):
        for optimizer in ("random", "constant", "to-the-worst"):
            add(problem=problem, optimizer=optimizer)
    for problem, optimizer in (("branin", "gp"), ("bowl-5", "corners"), ("bowl-2", "wrong-sign-turbo")):
        add(problem=problem, optimizer=optimizer)
    for problem in ("bowl-12", "mlp-good:0"):
        add(problem=problem, optimizer="shuffled")
        add(problem=problem, optimizer="turbo", budget=8)
        add(problem=problem, optimizer="cmaes", budget=150)
    for wrapped in ("noise-1%", "noise-40%", "drift", "drift-slow", "centred", "sorted"):
        add(problem="mlp-good:0", optimizer="cmaes", wrapped=wrapped)
    return found


QUESTS = _quests()
