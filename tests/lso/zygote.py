"""Forks work that is to be killed: ``python -m tests.lso.zygote MODULE``; torch is imported once for all of it.

Each line on standard input is a JSON list, the arguments of the module's ``main``, such as `tests.lso.killed.main`.
Answers with the process number of the work, and with how it ended. Light at the top: worker processes import this
module.
"""

import json
import os
import sys
from importlib import import_module


def main() -> None:
    module = import_module(sys.argv[1])
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            module.main(*json.loads(line))
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
