"""``python -m lso`` is the ``lso`` command."""

from lso.cli.main import main

main()
