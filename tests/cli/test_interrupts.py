"""Ctrl-C before a command has begun: one word, no traceback, whichever module is being imported."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lso import __main__ as entry

ROOT = Path(__file__).resolve().parents[2]
# Sends Ctrl-C when a module is first looked for. Python imports it before anything else.
HOOK = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(100):
                pass  # Python looks at signals between instructions

sys.meta_path.insert(0, Interrupting())
"""
SCRIPT = "import sys; from lso.__main__ import main; sys.argv = ['lso', 'list', 'methods']; sys.exit(main())"


@pytest.mark.parametrize("start", [["-m", "lso", "list", "methods"], ["-c", SCRIPT]], ids=["module", "script"])
@pytest.mark.parametrize("module", ["lso.cli", "typer", "lso.vae.config.methods"])
def test_interrupted_in_an_import_it_says_one_word(tmp_path: Path, start: list[str], module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *start],
        env=os.environ | {"PYTHONPATH": path, "INTERRUPT_AT": module},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where these tests run in the background
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_the_entry_gives_signals_of_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C that is ignored, as in the background of a script, stays ignored."""
    monkeypatch.setattr(entry, "_command", lambda: None)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        entry.main()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupted_outside_imports_python_is_told() -> None:
    with pytest.raises(KeyboardInterrupt):
        entry._interrupt(signal.SIGINT, sys._getframe())
