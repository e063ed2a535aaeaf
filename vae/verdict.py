"""One sentence on whether the latents collapsed, and what to try."""

COLLAPSED_SHARE = 0.2  # fewer active units than this share of the latents is called a collapse


def collapse_verdict(active_units: int, latent_dim: int, method: str) -> str:
    """The sentence for a model after its warm-up.

    Args:
        active_units: dimensions whose posterior mean varies (see `metrics.active_units`).
        latent_dim: size of z.
        method: that trained it, so that something else is suggested.
    Returns:
        Empty if at least a fifth of the dimensions are active.
    """
    if active_units >= COLLAPSED_SHARE * latent_dim:
        return ""
    remedies = ["ne-vae-se:weight=5", "free-bits", "beta-vae:beta=0.5", "skip-vae", "a smaller --latent-dim"]
    others = [remedy for remedy in remedies if not remedy.startswith(method)]
    return (
        f"Posterior collapse: only {active_units} of {latent_dim} latent dimensions are active, "
        f"so a search moves in few of them; try {', '.join(others[:-1])} or {others[-1]}."
    )
