"""Train networks of your own: a torch module with encode and decode. Kill the training, resume it, search in it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# --8<-- [start:module]
import torch
from torch import nn


class Autoencoder(nn.Module):
    """Small images. Arguments have defaults, so that the command line can make it, too."""

    def __init__(self, shape=(1, 8, 8), latent_dim=6):
        super().__init__()
        self.shape, self.latent_dim = shape, latent_dim
        size = torch.Size(shape).numel()
        self.to_code = nn.Sequential(
            nn.Flatten(),
            nn.Linear(size, 128),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(128, 2 * latent_dim),
        )
        self.to_image = nn.Sequential(nn.Linear(latent_dim, 128), nn.ReLU(), nn.Linear(128, size))

    def encode(self, x):  # (batch, channels, height, width) in [0, 1]
        mean, log_var = self.to_code(x).chunk(2, dim=1)
        return mean, log_var  # each (batch, latent_dim)

    def decode(self, z):  # (batch, latent_dim)
        return self.to_image(z).view(-1, *self.shape)  # logits, one a pixel


# --8<-- [end:module]


def train():
    # --8<-- [start:train]
    from own_module import Autoencoder

    import lso

    run = lso.train("ne-vae-se", model=Autoencoder(), task="digits", epochs=30, out="runs/own", device="cpu")
    print(run.info["sentence"])

    model = lso.load(run)
    dataset = lso.load_dataset(run.config.data, run.config.protocol.binarize, run.config.seed)
    print(f"-ELBO {lso.evaluate(model, dataset, iw_samples=0).neg_elbo:.1f} nats on the test split")
    print(type(model.module).__name__, "has the weights that were kept")
    # --8<-- [end:train]


def killed():
    # --8<-- [start:killed]
    from own_module import Autoencoder

    import lso

    torch.manual_seed(1)  # the weights of a module that you pass are those it begins with: draw them alike
    lso.train("vae", model=Autoencoder(), task="digits", epochs=60, out=sys.argv[2], device="cpu")
    # --8<-- [end:killed]


def resume():
    # --8<-- [start:resume]
    from own_module import Autoencoder

    import lso

    rows = Path("runs/killed/metrics.jsonl")
    with subprocess.Popen([sys.executable, __file__, "killed", "runs/killed"]) as training:
        while training.poll() is None and not (rows.exists() and len(rows.read_text().splitlines()) > 10):
            time.sleep(0.01)
        training.send_signal(signal.SIGKILL)  # as a power cut would: nothing is saved at this moment
    print(lso.Run("runs/killed").info["status"])

    resumed = lso.resume("runs/killed", model=Autoencoder(), device="cpu")
    print(resumed.info["sentence"])
    # --8<-- [end:resume]

    subprocess.run([sys.executable, __file__, "killed", "runs/whole"], check=True)
    same = Path("runs/killed/model.safetensors").read_bytes() == Path("runs/whole/model.safetensors").read_bytes()
    print("the same model, bit by bit" if same else "OTHER WEIGHTS")
    assert same


def search():
    # --8<-- [start:search]
    import lso

    run = lso.Run("runs/own", trust=True)  # trust: the module that the folder names may be imported
    settings = lso.SearchConfig(starts=4, max_steps=300)
    found = lso.search_targets(run, "test:5", settings, out="runs/search", device="cpu")
    print(found.info["sentence"], found.path / "report.html")
    # --8<-- [end:search]


COMMANDS = """
# --8<-- [start:commands]
lso train --arch own_module:Autoencoder --method ne-vae-se --task digits --epochs 3 --out runs/typed --device cpu
lso evaluate runs/typed --trust --iw-samples 10
lso optimize --model runs/own --trust --target test:3 --starts 2 --max-steps 50 --out runs/typed-search
# --8<-- [end:commands]
"""


def type_commands():
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    for line in COMMANDS.splitlines():
        if line.startswith("lso "):
            command = [sys.executable, "-m", *line.split()]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": here})


if __name__ == "__main__":
    if sys.argv[1:2] == ["killed"]:
        killed()
    else:
        train()
        resume()
        search()
        type_commands()
