"""Training objectives: the ELBO and its variants, re-encoding penalties, and schedules of the KL weight."""

# A penalty is known once the module that registers it has been imported: each such module has a line here.
from lso.vae.objectives import reencoding as reencoding
