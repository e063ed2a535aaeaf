"""Small trainings side by side, for the tests of sweeps and reproductions."""

from typing import Any

from lso.tasks.training.run_set import PlannedRun
from lso.tasks.training.sweep import plan_sweep

SMALL: dict[str, Any] = {
    "architecture": {"name": "mlp", "width": 8},
    "data": {"limit": 40},
    "protocol": {"epochs": 1, "batch_size": 20},
}


def small(*methods: str, latent_dims: tuple[int, ...] = (2,), seeds: int = 1, epochs: int = 1) -> list[PlannedRun]:
    """Trainings on 40 digits that take a blink each."""
    settings = {**SMALL, "protocol": {**SMALL["protocol"], "epochs": epochs}}
    return plan_sweep(methods or ("vae",), latent_dims, seeds, settings)
