"""Code that a file names: none of it runs unless the user says so. Torch-free."""

from collections.abc import Collection

from lso.vae.errors import UsageError

# What a user lets run of the code that a file names: all of it, none, or what they named themselves in this call.
Trust = bool | Collection[str]


def require_trust(name: str, noun: str, trust: Trust) -> None:
    """Refuse code that is named by a file and not by the user."""
    if trust is True or (trust is not False and name in trust):
        return
    raise UsageError(
        f"a file names the {noun} {name}, and to go on would import and run it",
        f"If you trust that code: --trust (trust=True in Python), or name it yourself where there is --{noun}.",
    )
