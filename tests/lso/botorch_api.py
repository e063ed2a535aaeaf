"""BoTorch's names for tests, imported once and quietly: warnings are errors here."""

from typing import Any

from lso._botorch import importing_botorch

with importing_botorch():
    from botorch.generation import gen
    from botorch.optim import batched_lbfgs_b, optimize
    from botorch.utils.testing import (
        BaseTestProblemTestCaseMixIn,
        BotorchTestCase,
        ConstrainedTestProblemTestCaseMixin,
    )

# Our objects have the members that these ask for without being of the classes that their annotations name.
gen_candidates_scipy: Any = gen.gen_candidates_scipy
numpy_wrapper: Any = gen._get_f_np_wrapper
fmin_l_bfgs_b_batched: Any = batched_lbfgs_b.fmin_l_bfgs_b_batched
optimize_acqf: Any = optimize.optimize_acqf

__all__ = [
    "BaseTestProblemTestCaseMixIn",
    "BotorchTestCase",
    "ConstrainedTestProblemTestCaseMixin",
    "fmin_l_bfgs_b_batched",
    "gen_candidates_scipy",
    "numpy_wrapper",
    "optimize_acqf",
]
