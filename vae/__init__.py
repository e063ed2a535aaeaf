"""VAEs: networks, posteriors, objectives, inference, schedules, methods, training, metrics and run folders."""

from lso.vae.utils.lazy import attach

__getattr__, __dir__, __all__ = attach(
    "lso.vae",
    {
        "ARCHITECTURES": "lso.vae.config.architectures",
        "AutoencoderModule": "lso.vae.protocols",
        "Architecture": "lso.vae.config.architectures",
        "Dataset": "lso.vae.data.dataset",
        "DecoderNetwork": "lso.vae.protocols",
        "DiagonalGaussian": "lso.vae.distributions.gaussian",
        "EncoderNetwork": "lso.vae.protocols",
        "Likelihood": "lso.vae.protocols",
        "LsoError": "lso.vae.errors",
        "METHODS": "lso.vae.config.methods",
        "Method": "lso.vae.config.methods",
        "Metrics": "lso.vae.metrics.evaluation",
        "Posterior": "lso.vae.protocols",
        "Prior": "lso.vae.protocols",
        "Protocol": "lso.vae.config.protocol",
        "Run": "lso.vae.runs",
        "StandardNormal": "lso.vae.distributions.gaussian",
        "TrainConfig": "lso.vae.config.training",
        "VAE": "lso.vae.models.vae",
        "architecture": "lso.vae.config.architectures",
        "build": "lso.vae.models.vae",
        "method": "lso.vae.config.methods",
    },
)
