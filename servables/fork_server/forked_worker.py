"""What a fork does to be the process that was asked for."""

from __future__ import annotations

import contextlib
import gc
import os
import runpy
import sys
from collections.abc import Sequence

from servables.fork_server.start_request import StartRequest


def run_worker(request: StartRequest, files: Sequence[int]) -> None:
    """Runs the request's script as this process's main program; `files` become its standard input, output and error."""
    import numpy as np  # here, since a fork server imports nothing slow before it listens

    os.setpgid(0, 0)  # as Ray's workers have it: with a worker, Ray ends its whole process group
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment)
    with contextlib.suppress(PermissionError), open("/proc/self/oom_score_adj", "w") as score:  # only higher is always allowed
        score.write(str(request.oom_score_adj))
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, request.niceness)
    np.random.seed()  # Python's own generator has seen to itself
    gc.enable()
    script = request.arguments[0]
    sys.argv[:] = request.arguments
    sys.path[0] = os.path.dirname(script)
    runpy.run_path(script, run_name="__main__")
