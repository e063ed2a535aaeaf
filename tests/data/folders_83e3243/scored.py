"""A score for searches: the ink of an image. With DIE_AT set the process dies before that call."""

import os
import signal
from collections.abc import Sequence
from typing import Any

calls = 0


def ink(images: Sequence[Any]) -> list[float]:
    global calls
    calls += 1
    if calls == int(os.environ.get("DIE_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    return [float(image.sum()) for image in images]
