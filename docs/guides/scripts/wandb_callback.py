import wandb

import lso


class WandB(lso.Callback):
    """Logs each epoch of a training to Weights & Biases, and goes on with the same curves when it is resumed."""

    def __init__(self, project):
        self.project = project

    def on_start(self, event):
        name = event.source.path.name  # event.source is the run
        # The same id for the same folder: a resumed training continues its curves.
        self.run = wandb.init(project=self.project, name=name, id=name, resume="allow", config=event.source.info)

    def on_epoch(self, event):
        numbers = {key: value for key, value in event.values.items() if isinstance(value, int | float)}
        kl = event.posterior.kl(event.model.prior).mean(0).tolist()  # nats of each dimension
        numbers |= {f"kl/{number}": value for number, value in enumerate(kl)}
        self.run.log(numbers, step=event.done)

    def on_end(self, event):
        self.run.summary["sentence"] = event.text
        self.run.finish()


run = lso.train("ne-vae-se", latent_dim=8, epochs=5, out="runs/wandb", callback=WandB("digits"))
