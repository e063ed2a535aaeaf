"""Latent-space optimization: train a VAE whose latents do not collapse, freeze its decoder, search its latent space.

The public names load their modules at first use, so that ``import lso`` costs milliseconds.
"""

from pathlib import Path
from typing import TYPE_CHECKING

# A built wheel holds vae/, tasks/ and cli/ inside lso/; in a checkout they lie beside it.
if not (Path(__file__).parent / "vae").is_dir():
    __path__.append(str(Path(__file__).resolve().parents[1]))

from lso.vae.utils.lazy import attach

if TYPE_CHECKING:
    from lso.black_box.ask_tell import make_optimizer as make_optimizer
    from lso.black_box.loop import optimize as optimize
    from lso.black_box.result import SearchResult as SearchResult
    from lso.black_box.workers import Workers as Workers
    from lso.decoders.decoder import Decoder as Decoder
    from lso.decoders.generation import Generation as Generation
    from lso.decoders.probing import probe as probe
    from lso.gradient.inversion import invert as invert
    from lso.gradient.search import minimize as minimize
    from lso.objectives.latent_objective import LatentObjective as LatentObjective
    from lso.results.result import Evaluation as Evaluation
    from lso.results.result import Result as Result
    from lso.space import LatentSpace as LatentSpace
    from lso.tasks.datasets.loading import load_dataset as load_dataset
    from lso.tasks.export import export as export
    from lso.tasks.goals import Goal as Goal
    from lso.tasks.retraining.run import weighted_retraining as weighted_retraining
    from lso.tasks.search.gradient import search_targets as search_targets
    from lso.tasks.search.options import SearchConfig as SearchConfig
    from lso.tasks.training.experiment import evaluate as evaluate
    from lso.tasks.training.experiment import load as load
    from lso.tasks.training.experiment import resume as resume
    from lso.tasks.training.experiment import train as train
    from lso.vae.callbacks import Callback as Callback
    from lso.vae.callbacks import Event as Event
    from lso.vae.config.methods import METHODS as METHODS
    from lso.vae.config.methods import Method as Method
    from lso.vae.config.methods import method as method
    from lso.vae.config.protocol import DataConfig as DataConfig
    from lso.vae.data.dataset import Dataset as Dataset
    from lso.vae.distributions.gaussian import DiagonalGaussian as DiagonalGaussian
    from lso.vae.errors import LsoError as LsoError
    from lso.vae.metrics.evaluation import Metrics as Metrics
    from lso.vae.models.vae import VAE as VAE
    from lso.vae.runs import Run as Run
    from lso.vae.tensorboard import TensorBoard as TensorBoard

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = attach(
    "lso",
    {
        "Callback": "lso.vae.callbacks",
        "DataConfig": "lso.vae.config.protocol",
        "Dataset": "lso.vae.data.dataset",
        "Decoder": "lso.decoders.decoder",
        "DiagonalGaussian": "lso.vae.distributions.gaussian",
        "Evaluation": "lso.results.result",
        "Event": "lso.vae.callbacks",
        "Generation": "lso.decoders.generation",
        "Goal": "lso.tasks.goals",
        "LatentObjective": "lso.objectives.latent_objective",
        "LatentSpace": "lso.space",
        "LsoError": "lso.vae.errors",
        "METHODS": "lso.vae.config.methods",
        "Method": "lso.vae.config.methods",
        "Metrics": "lso.vae.metrics.evaluation",
        "Result": "lso.results.result",
        "Run": "lso.vae.runs",
        "SearchConfig": "lso.tasks.search.options",
        "SearchResult": "lso.black_box.result",
        "TensorBoard": "lso.vae.tensorboard",
        "VAE": "lso.vae.models.vae",
        "Workers": "lso.black_box.workers",
        "evaluate": "lso.tasks.training.experiment",
        "export": "lso.tasks.export",
        "invert": "lso.gradient.inversion",
        "load": "lso.tasks.training.experiment",
        "load_dataset": "lso.tasks.datasets.loading",
        "make_optimizer": "lso.black_box.ask_tell",
        "method": "lso.vae.config.methods",
        "minimize": "lso.gradient.search",
        "optimize": "lso.black_box.loop",
        "probe": "lso.decoders.probing:probe",
        "resume": "lso.tasks.training.experiment",
        "search_targets": "lso.tasks.search.gradient",
        "train": "lso.tasks.training.experiment",
        "weighted_retraining": "lso.tasks.retraining.run",
    },
)
