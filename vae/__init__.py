"""VAEs: networks, posteriors, objectives, inference, schedules, methods, training, metrics and run folders."""

from lso.vae.lazy import attach

__getattr__, __dir__, __all__ = attach(
    "lso.vae",
    {
        "ARCHITECTURES": "lso.vae.architectures",
        "Architecture": "lso.vae.architectures",
        "Dataset": "lso.vae.data",
        "DiagonalGaussian": "lso.vae.gaussian",
        "LsoError": "lso.vae.errors",
        "METHODS": "lso.vae.methods",
        "Method": "lso.vae.methods",
        "Metrics": "lso.vae.metrics",
        "Protocol": "lso.vae.config",
        "Run": "lso.vae.runs",
        "TrainConfig": "lso.vae.config",
        "VAE": "lso.vae.model",
        "architecture": "lso.vae.architectures",
        "build": "lso.vae.model",
        "method": "lso.vae.methods",
    },
)
