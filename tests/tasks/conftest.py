"""One small trained run for the tests that only look at one."""

import pytest

from lso.tasks.experiment import train
from lso.vae.runs import Run


@pytest.fixture(scope="session")
def trained_digits(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three epochs on the digits, four latents. Do not write into it."""
    out = tmp_path_factory.mktemp("trained") / "digits"
    settings = {"architecture": {"latent_dim": 4, "width": 32}, "protocol": {"epochs": 3}}
    return train("vae:anneal=1", settings=settings, out=out, device="cpu")
