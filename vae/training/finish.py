"""Closes a training session: final status, metrics of the kept weights, and the verdict on posterior collapse."""

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
    """Record that a training stopped early and can be resumed."""
    where = f"{pluralize(trainer.position.epoch, 'epoch')} and {pluralize(trainer.position.step, 'step')}"
    _note(trainer, status="stopped", sentence=f"{reason} after {where}{slowness_note(trainer)}")


def finish(trainer: Trainer) -> None:
    """Close a finished training: load the kept weights, measure the decoder's use of each latent, write the verdict.

    Called after the last epoch, in the process that writes. Changes the model in place.
    """
    model, config, codes = trainer.state.model, trainer.config, trainer.codes
    model.load_state_dict(trainer.best)
    assert codes is not None
    # Only mean and log-variance were kept; other posteriors need more than these to draw codes, so infer them again.
    q = codes if config.method.posterior.diagonal else validate(model, trainer.validation, config.seed)[1]
    use = decoder_use(model.eval(), trainer.validation, q, seed=config.seed)
    known = checkpoint.Codes(codes.mean, codes.log_var, use)
    runs.write_files(trainer.run, {runs.CODES: checkpoint.pack_codes(known)})
    use_of_latents, method = latent_use(known), config.method
    warm = trainer.position.step >= warmup_steps(method.schedule, trainer.steps_per_epoch)
    verdict = collapse_verdict(use_of_latents, method.name, method.schedule.end, warm)
    sentence = f"finished {pluralize(trainer.position.epoch, 'epoch')}; {trainer.run.kept_by()}{slowness_note(trainer)}"
    _note(trainer, status="finished", sentence=sentence, verdict=verdict, judged=warm, latents=plain(use_of_latents))


def _note(trainer: Trainer, **values: Any) -> None:
    """Write values to run.json, with a summary of the kept and the last epoch."""
    if is_main_process() and (rows := trainer.run.metrics()):
        values |= summarize_epochs(trainer.config, trainer.run.best(), rows[-1])
    update_status(trainer.run, **values, finished=runs.now(), seconds=elapsed(trainer))
