"""Gaussian-process search under sparse axes: few dimensions matter, as where most of a latent space has collapsed.

BoTorch's MAP ensemble of SAAS processes (Eriksson & Jankowiak 2021, arXiv:2103.00349); all else is as in `lso.gp`.
"""

from functools import partial

from lso import gp

build = partial(gp.build, surrogate="saas")
