"""Latent-space optimization: train a VAE whose latents do not collapse, freeze its decoder, search its latent space.

The public names load their modules at first use, so that ``import lso`` costs milliseconds.
"""

from pathlib import Path
from typing import TYPE_CHECKING

# A built wheel holds vae/, tasks/ and cli/ inside lso/; in a checkout they lie beside it.
if not (Path(__file__).parent / "vae").is_dir():
    __path__.append(str(Path(__file__).resolve().parents[1]))

from lso.vae.lazy import attach

if TYPE_CHECKING:
    from lso.asktell import make_optimizer as make_optimizer
    from lso.decoder import Decoder as Decoder
    from lso.generation import Generation as Generation
    from lso.gradient import minimize as minimize
    from lso.inversion import invert as invert
    from lso.loop import optimize as optimize
    from lso.objective import LatentObjective as LatentObjective
    from lso.probing import probe as probe
    from lso.result import Evaluation as Evaluation
    from lso.result import Result as Result
    from lso.search_result import SearchResult as SearchResult
    from lso.space import LatentSpace as LatentSpace
    from lso.tasks.datasets import load_dataset as load_dataset
    from lso.tasks.experiment import evaluate as evaluate
    from lso.tasks.experiment import load as load
    from lso.tasks.experiment import resume as resume
    from lso.tasks.experiment import train as train
    from lso.tasks.goal import Goal as Goal
    from lso.tasks.retraining import weighted_retraining as weighted_retraining
    from lso.tasks.search import SearchConfig as SearchConfig
    from lso.tasks.search import search_targets as search_targets
    from lso.vae.config import DataConfig as DataConfig
    from lso.vae.data import Dataset as Dataset
    from lso.vae.errors import LsoError as LsoError
    from lso.vae.gaussian import DiagonalGaussian as DiagonalGaussian
    from lso.vae.methods import METHODS as METHODS
    from lso.vae.methods import Method as Method
    from lso.vae.methods import method as method
    from lso.vae.metrics import Metrics as Metrics
    from lso.vae.model import VAE as VAE
    from lso.vae.runs import Run as Run
    from lso.workers import Workers as Workers

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach(
    "lso",
    {
        "DataConfig": "lso.vae.config",
        "Dataset": "lso.vae.data",
        "Decoder": "lso.decoder",
        "DiagonalGaussian": "lso.vae.gaussian",
        "Evaluation": "lso.result",
        "Generation": "lso.generation",
        "Goal": "lso.tasks.goal",
        "LatentObjective": "lso.objective",
        "LatentSpace": "lso.space",
        "LsoError": "lso.vae.errors",
        "METHODS": "lso.vae.methods",
        "Method": "lso.vae.methods",
        "Metrics": "lso.vae.metrics",
        "Result": "lso.result",
        "Run": "lso.vae.runs",
        "SearchConfig": "lso.tasks.search",
        "SearchResult": "lso.search_result",
        "VAE": "lso.vae.model",
        "Workers": "lso.workers",
        "evaluate": "lso.tasks.experiment",
        "invert": "lso.inversion",
        "load": "lso.tasks.experiment",
        "load_dataset": "lso.tasks.datasets",
        "make_optimizer": "lso.asktell",
        "method": "lso.vae.methods",
        "minimize": "lso.gradient",
        "optimize": "lso.loop",
        "probe": "lso.probing:probe",
        "resume": "lso.tasks.experiment",
        "search_targets": "lso.tasks.search",
        "train": "lso.tasks.experiment",
        "weighted_retraining": "lso.tasks.retraining",
    },
)
