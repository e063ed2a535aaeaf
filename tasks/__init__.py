"""Tasks: datasets to learn from, and what is done with the models: trainings, searches, pictures."""

from lso.vae.lazy import attach

__getattr__, __dir__, __all__ = attach(
    "lso.tasks",
    {
        "TASKS": "lso.tasks.task",
        "load_dataset": "lso.tasks.datasets",
        "load_targets": "lso.tasks.targets",
        "score_smiles": "lso.tasks.molecule_scores",
        "search_targets": "lso.tasks.search",
        "text_dataset": "lso.tasks.text",
        "train": "lso.tasks.experiment",
    },
)
