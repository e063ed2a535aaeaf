"""Tasks: datasets to learn from, and what is done with the models: trainings, searches, pictures."""

from lso.vae.lazy import attach

__getattr__, __dir__, __all__ = attach(
    "lso.tasks",
    {
        "TASKS": "lso.tasks.task",
        "load_dataset": "lso.tasks.images",
        "load_targets": "lso.tasks.targets",
        "search_targets": "lso.tasks.search",
        "train": "lso.tasks.experiment",
    },
)
