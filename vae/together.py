"""Several trainings of one architecture in lockstep: their outer steps are done at once, as one batched model.

Each is an ordinary run: its noise and order are those of its own seed, its rows, checkpoints and status are written by
the same functions, and it can be resumed alone, or together again. Its numbers are those that it would have alone, to
the rounding of sums taken in another order.
"""

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from torch import Tensor

from lso.vae.alike import kind
from lso.vae.errors import DivergedError, UsageError
from lso.vae.opening import leave
from lso.vae.runs import Run
from lso.vae.stacked import Stacked, stack, step_together
from lso.vae.step import Info
from lso.vae.trainer import Trainer, note
from lso.vae.training import after_step, inputs, outer_steps, session
from lso.vae.watch import Limits

ALONE = "another training that was to go together with it could not begin"


def train(trainers: Sequence[Trainer], limits: Limits = Limits()) -> list[Run]:
    """Train to the end, or to where the session is cut, each as `lso.vae.training.train` would.

    Those furthest behind step first, so that all meet at one step wherever each was cut; one that is finished,
    diverged or cut leaves the others.

    Args:
        trainers: from `lso.vae.opening`, of one kind (see `lso.vae.alike.kind`) and of data of one size; in folders
            that the caller holds.
        limits: where this session ends.
    Returns:
        Their runs, in order; of one that diverged the status is ``failed``.
    Raises:
        UsageError: if they differ in more than seed, learning rates and KL schedule.
    """
    members = [_Member(trainer, _course(trainer, limits)) for trainer in trainers]
    stacked: Stacked | None = None
    try:
        _check(trainers)
        for member in members:
            member.trainer.abreast = len(trainers)
            note(member.trainer.run, together=len(trainers))
        for member in members:
            next(member.course)
        for member in members:
            _go_on(member)
        while waiting := [member for member in members if member.rows is not None]:
            first = min(member.trainer.position.step for member in waiting)
            stacked = _step([member for member in waiting if member.trainer.position.step == first], stacked)
    except BaseException as error:
        for member in members:
            with suppress(BaseException):
                member.course.throw(error)  # each folder says how its session ended
        leave(trainers, ALONE)
        raise
    return [trainer.run for trainer in trainers]


Course = Generator[Tensor | None, Info | None, None]


@dataclass(slots=True)
class _Member:
    """One of the trainings.

    Args:
        trainer: where it stands.
        course: its session, which says which rows it steps on and is told what came of it.
        rows: of its coming step; None once it has left.
    """

    trainer: Trainer
    course: Course
    rows: Tensor | None = field(default=None)


def _course(trainer: Trainer, limits: Limits) -> Course:
    with session(trainer, limits):
        yield None  # all sessions are open before the first works, so that an error there is told to all
        for rows in outer_steps(trainer, limits.steps):
            info = yield rows
            assert info is not None
            after_step(trainer, info, len(rows))


def _go_on(member: _Member, info: Info | None = None) -> None:
    """Tell a training what its step did, and take its next rows; it leaves where it ends or diverges."""
    try:
        member.rows = member.course.send(info)
    except (StopIteration, DivergedError):  # its run.json says which
        member.rows = None


def _step(members: Sequence[_Member], stacked: Stacked | None) -> Stacked | None:
    """One outer step of each; returns the stack that it was done in, to be used again by the same ones."""
    asked = [inputs(member.trainer, member.rows) for member in members if member.rows is not None]
    states = [member.trainer.state for member in members]
    if len(states) == 1:
        infos = [members[0].trainer.step(*asked[0])]
        stacked = None
    else:
        if stacked is None or [id(state) for state in stacked.states] != [id(state) for state in states]:
            stacked = stack(states)
            for member in members:
                member.trainer.step.forget()  # the weights have moved
        x, noise, knobs = zip(*asked, strict=True)
        infos = step_together(stacked, x, noise, knobs)
    for member, info in zip(members, infos, strict=True):
        _go_on(member, info)
    return stacked


def _check(trainers: Sequence[Trainer]) -> None:
    kinds = {(kind(trainer.config), len(trainer.data), trainer.data.shape[1:]) for trainer in trainers}
    if len(kinds) != 1 or kind(trainers[0].config) is None:
        names = ", ".join(str(trainer.run.path) for trainer in trainers)
        raise UsageError(
            f"{names} cannot be trained together: they differ in more than seed, learning rates and KL schedule, or "
            "are of a method or of data that each model steps through on its own",
            "Train them one after another.",
        )
