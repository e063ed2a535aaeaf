"""Tasks: datasets to learn from, and what is done with the models: trainings, searches, pictures."""

from lso.vae.utils.lazy import attach

__getattr__, __dir__, __all__ = attach(
    "lso.tasks",
    {
        "TASKS": "lso.tasks.task",
        "load_dataset": "lso.tasks.datasets.loading",
        "load_targets": "lso.tasks.search.targets",
        "score_smiles": "lso.tasks.problems.molecule_scores",
        "search_targets": "lso.tasks.search.gradient",
        "text_dataset": "lso.tasks.datasets.text_files",
        "train": "lso.tasks.training.experiment",
    },
)
