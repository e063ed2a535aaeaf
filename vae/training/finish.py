"""How a training is closed: what its folder says of the weights that were kept, and whether their latents collapsed."""

from typing import Any

from lso.vae import checkpoint, runs
from lso.vae.checkpoint_selection import summarize_epochs
from lso.vae.launch import is_main_process
from lso.vae.metrics.collapse import collapse_verdict, plain
from lso.vae.metrics.evaluation import decoder_use, validate
from lso.vae.metrics.latent_use import latent_use
from lso.vae.objectives.kl_schedules import warmup_steps
from lso.vae.training.state import Trainer, elapsed, slowness_note, update_status
from lso.vae.utils.validation import pluralize


def stop(trainer: Trainer, reason: str) -> None:
    """Say of a training that it can be gone on with."""
    where = f"{pluralize(trainer.position.epoch, 'epoch')} and {pluralize(trainer.position.step, 'step')}"
    _note(trainer, status="stopped", sentence=f"{reason} after {where}{slowness_note(trainer)}")


def finish(trainer: Trainer) -> None:
    """Close a finished training: decoder use per dimension beside the codes, and the verdict on collapse.

    Args:
        trainer: after its last epoch, in the process that writes; its model takes the weights that are kept.
    """
    model, config, codes = trainer.state.model, trainer.config, trainer.codes
    model.load_state_dict(trainer.best)
    assert codes is not None
    # Mean and log-variance are kept, by which only the diagonal Gaussian draws its codes.
    q = codes if config.method.posterior.diagonal else validate(model, trainer.validation, config.seed)[1]
    use = decoder_use(model.eval(), trainer.validation, q, seed=config.seed)
    known = checkpoint.Codes(codes.mean, codes.log_var, use)
    runs.write_files(trainer.run, {runs.CODES: checkpoint.pack_codes(known)})
    found, method = latent_use(known), config.method
    warm = trainer.position.step >= warmup_steps(method.schedule, trainer.steps_per_epoch)
    verdict = collapse_verdict(found, method.name, method.schedule.end, warm)
    sentence = f"finished {pluralize(trainer.position.epoch, 'epoch')}; {trainer.run.kept_by()}{slowness_note(trainer)}"
    _note(trainer, status="finished", sentence=sentence, verdict=verdict, judged=warm, latents=plain(found))


def _note(trainer: Trainer, **values: Any) -> None:
    """Write to run.json, with what the epochs kept and last had."""
    if is_main_process() and (rows := trainer.run.metrics()):
        values |= summarize_epochs(trainer.config, trainer.run.best(), rows[-1])
    update_status(trainer.run, **values, finished=runs.now(), seconds=elapsed(trainer))
