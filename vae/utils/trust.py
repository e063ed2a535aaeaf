"""Trust in code that a file names (``module:function``): none of it runs unless the user says so. Torch-free."""

from collections.abc import Collection

from lso.vae.errors import UsageError

# Which code named by a file the user allows to run: all, none, or the names that they gave themselves in this call.
Trust = bool | Collection[str]


def require_trust(name: str, noun: str, trust: Trust) -> None:
    """Refuse code that is named by a file and not by the user; ``noun`` says what it is, and is its option's name."""
    if trust is True or (trust is not False and name in trust):
        return
    raise UsageError(
        f"a file names the {noun} {name}, and to go on would import and run it",
        f"If you trust that code: --trust (trust=True in Python), or name it yourself where there is --{noun}.",
    )
