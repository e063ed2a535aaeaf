"""One sentence on whether the latents collapsed, and what to try."""

REMEDIES = ("ne-vae-se:weight=5", "aggressive", "free-bits", "beta-vae:beta=0.5", "skip-vae", "a smaller --latent-dim")
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
    others = [remedy for remedy in REMEDIES if not remedy.startswith(method)]
    found = f"only {active_units} of {latent_dim} latent dimensions {'is' if active_units == 1 else 'are'} active"
    found += ", so a search moves in few of them"
    told = found if active_units else f"none of {latent_dim} latent dimensions is active"
    return f"Posterior collapse: {told}; try {', '.join(others[:-1])} or {others[-1]}."
