"""Steps fused by torch.compile: the same numbers to rounding; without a compiler, steps as they were, and a word.

In processes of their own: the run-time checks of shapes that tests are under cannot be compiled.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lso.vae.runs import Run

pytestmark = pytest.mark.slow  # a compiler runs

SCRIPT = """
import sys
from pathlib import Path
from lso.vae.training import loop as training
from tests.vae.small import config, digits

to, chosen = Path(sys.argv[1]), config("ne-vae-se", compiled=True)
training.train_model(chosen, digits(), to / "whole")
if sys.argv[2:] == ["all"]:
    cut = training.train_model(chosen, digits(), to / "cut", limits=training.Limits(steps=5))
    training.resume_training(cut, digits())
    training.train_model(config("ne-vae-se"), digits(), to / "plain")
"""


def trained(to: Path, *more: str, **environment: str) -> dict[str, Run]:
    command = [sys.executable, "-c", SCRIPT, str(to), *more]
    subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
    return {path.name: Run(path) for path in to.iterdir() if (path / "run.json").is_file()}


def test_a_compiled_training_is_the_other_to_rounding_and_resumes(tmp_path: Path) -> None:
    runs = trained(tmp_path, "all")
    assert "not compiled" not in runs["whole"].info["sentence"]
    compiled, plain = runs["whole"].best(), runs["plain"].best()
    for key in ("neg_elbo", "kl", "train_loss", "gradient_norm"):
        assert compiled[key] == pytest.approx(plain[key], rel=1e-4), key
    assert compiled["train_loss"] != plain["train_loss"], "nothing was compiled"
    whole, cut = ((runs[name].path / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_without_a_compiler_training_goes_on_and_says_so(tmp_path: Path) -> None:
    run = trained(tmp_path, CXX="/nonexistent", TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))["whole"]
    assert run.info["status"] == "finished" and "steps are not compiled" in run.info["sentence"]
