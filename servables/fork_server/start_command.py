"""The command that Ray starts a version replica's worker with: it has one forked, or else becomes it.

It ends once a fork has taken over. A worker tells Ray its process id itself, so Ray watches and ends the fork.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping

from servables.fork_server.code_version import ROOT, code_version
from servables.fork_server.start_request import GO, HEADER, READY, StartRequest

NAME_VARIABLE = "ASPIRED_FORK_SERVER"
"""The environment variable with the name of a server's fork servers, which only its own processes have."""
WORKER_ENVIRONMENT: Mapping[str, str] = {"TF_CPP_MIN_LOG_LEVEL": "1"}
"""What TensorFlow reads while it is imported, in version replicas."""
FORK_TIMEOUT_S = 20.0
"""How long a fork may take to come, the imports of a fork server that has just been started included."""
CONNECT_INTERVAL_S = 0.02
FORKS = sys.platform == "linux"
"""Whether this system has what fork servers are made of."""


def start_command() -> str:
    """What to give Ray as the Python executable of a version replica's worker on this machine: words for a shell."""
    # Isolated and without site-packages: the standard library is enough, and quick.
    find = "sys.path.insert(0, sys.argv.pop(1))"
    return shlex.join([sys.executable, "-I", "-S", "-c", _program(find, "start_command"), ROOT])


def start_fork_server(name: str, owner: int) -> int:
    """Starts a fork server that ends with the process `owner`; one that finds another of its name ends at once.

    It imports TensorFlow in the environment of this process, and logs to its standard error. Returns its process id.
    """
    # numpy starts threads when it is imported, and a process with threads must not be forked.
    environment = {**os.environ, **WORKER_ENVIRONMENT, NAME_VARIABLE: name, "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, "-c", _program("sys.path[0] = sys.argv.pop(1)", "fork_server"), ROOT, str(owner)]
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
    # A process group of its own: with a worker, Ray ends the worker's whole group.
    return os.posix_spawn(sys.executable, words, environment, file_actions=files, setpgroup=0)


def address(name: str) -> str:
    """Where the fork server of this name listens: a socket without a file, which ends with its process."""
    return f"\0aspired-fork-{name}"


def main() -> None:
    """Never returns."""
    arguments = sys.argv[1:]
    try:
        if _forked(os.environ[NAME_VARIABLE], arguments):
            os._exit(0)
    except OSError as error:
        print(f"no fork server: {error}", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, *arguments])


def _program(find: str, module: str) -> str:
    return f"import sys; {find}; from servables.fork_server.{module} import main; main()"


def _forked(name: str, arguments: list[str]) -> bool:
    """Whether a fork has taken over. Raises OSError when there is no fork server, or none in time."""
    with open("/proc/self/oom_score_adj") as file:
        oom_score_adj = int(file.read())
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    request = StartRequest(code_version(), tuple(arguments), dict(os.environ), os.getcwd(), oom_score_adj, niceness).encode()
    deadline = time.monotonic() + FORK_TIMEOUT_S
    with _connected(name, deadline) as connection:
        connection.settimeout(max(CONNECT_INTERVAL_S, deadline - time.monotonic()))
        socket.send_fds(connection, [HEADER.pack(len(request))], [0, 1, 2])
        connection.sendall(request)
        if connection.recv(1) != READY:
            return False
        connection.sendall(GO)
        return True


def _connected(name: str, deadline: float) -> socket.socket:
    """A connection to the fork server, which is started if there is none. Raises OSError when that does not help."""
    started = 0
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(address(name))
        except ConnectionRefusedError:
            connection.close()
            if time.monotonic() > deadline or (started and os.waitpid(started, os.WNOHANG) != (0, 0)):
                raise
            started = started or start_fork_server(name, owner=os.getppid())  # the raylet
            time.sleep(CONNECT_INTERVAL_S)
        else:
            return connection
