"""Forks searches that are to be killed: ``python -m tests.lso.zygote``; torch is imported once for all of them.

Each line on standard input is a JSON list: folder, world, optimizer, lines, part (see `tests.lso.killed.main`). Answers
with the process number of the search, and with how it ended. Light at the top: worker processes import this module.
"""

import json
import os
import sys


def main() -> None:
    from tests.lso import killed

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            killed.main(*json.loads(line))
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
