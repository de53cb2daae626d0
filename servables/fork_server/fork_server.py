"""The process that has imported what version replicas import, has done nothing else, and is forked for each of them."""

from __future__ import annotations

import gc
import logging
import os
import selectors
import socket
import struct
import sys
from collections.abc import Sequence

from servables.fork_server.code_version import code_version
from servables.fork_server.forked_worker import run_worker
from servables.fork_server.imports import Imports
from servables.fork_server.start_command import NAME_VARIABLE, address
from servables.fork_server.start_request import GO, HEADER, MAX_REQUEST_BYTES, READY, StartRequest, refusal

REQUEST_TIMEOUT_S = 2.0
IDLE_TIMEOUT_S = 600.0
"""How long a fork server without forks waits for the next request before it ends; the next start command starts another."""

_BACKLOG = 256
_FILES = 3
_UCRED = struct.Struct("3i")

Fork = tuple[StartRequest, Sequence[int]]
"""What a fork is to be: the request, and its standard input, output and error."""

logger = logging.getLogger(__name__)


def main(imports: Imports | None = None) -> None:
    """Serves until the process of the last argument has ended, or nobody has asked for long; in a fork, is its worker."""
    _log_to_standard_error()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before the imports: commands find the name taken, and wait.
        listening.bind(address(os.environ[NAME_VARIABLE]))
        listening.listen(_BACKLOG)
        owner = os.pidfd_open(int(sys.argv.pop()))
    except OSError as error:
        logger.info("not needed: %s", error)
        return
    fork = ForkServer(listening, owner, imports or Imports()).serve()
    if fork is not None:
        run_worker(*fork)


def _log_to_standard_error() -> None:
    """For this package alone: forks set the other loggers up as they like."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s fork server %(process)d: %(message)s"))
    ours = logging.getLogger(__package__)
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False


class ForkServer:
    """Answers start commands one after the other: it has a single thread, without which forks would not be safe."""

    def __init__(self, listening: socket.socket, owner: int, imports: Imports) -> None:
        self._listening = listening
        self._owner = owner
        self._imports = imports
        self._code_version = code_version()
        self._environment = dict(os.environ)
        self._ray_imported = False
        self._draw_alike = False
        self._forks: set[int] = set()
        self._ended = False
        gc.disable()  # until `gc.freeze`: what a collection freed would be filled again in every fork

    def serve(self) -> Fork | None:
        """Returns in every fork, with what it is to be; and when the server ends, with None."""
        self._imports.tensorflow()
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._owner, selectors.EVENT_READ)
            while not self._ended:
                ready = {key.fd for key, _ in selector.select(None if self._forks else IDLE_TIMEOUT_S)}
                if not ready or self._owner in ready:
                    break
                for fork in self._forks & ready:
                    selector.unregister(fork)
                    self._reap(fork)
                if self._listening.fileno() in ready:
                    connection, _ = self._listening.accept()
                    with connection:
                        taken = self._answer(connection)
                    if taken is not None:
                        return taken
                for fork in self._forks - selector.get_map().keys():
                    selector.register(fork, selectors.EVENT_READ)
        logger.info("ends")
        return None

    def _answer(self, connection: socket.socket) -> Fork | None:
        """Forks, unless that would not be right. Returns something only in the fork."""
        files: list[int] = []
        request, pid = None, None
        try:
            request = self._accepted(connection, files)
            if request is not None:
                pid = os.fork()
        except (OSError, ValueError) as error:
            logger.warning("a replica starts by itself: %s", error)
        if request is not None and pid == 0:
            return self._begin(connection, request, files)
        if pid is not None:
            self._forks.add(os.pidfd_open(pid))
        for file in files:
            os.close(file)
        return None

    def _accepted(self, connection: socket.socket, files: list[int]) -> StartRequest | None:
        """The request, if it may be done here. Raises ValueError for what is no request, OSError when none comes in time."""
        if not _is_ours(connection):
            logger.warning("a process of another user was refused")
            return None
        connection.settimeout(REQUEST_TIMEOUT_S)
        request = _receive(connection, files)
        problem = self._problem(request)
        if problem:
            logger.warning("a replica starts by itself: %s", problem)
            return None
        return request

    def _problem(self, request: StartRequest) -> str:
        """Why this process must not be forked for the request; empty when it may."""
        problem = refusal(request, self._code_version, self._environment, self._ray_imported)
        if problem:
            self._ended = request.code_version != self._code_version  # the next command starts one that has the new code
            return problem
        if not self._ray_imported:
            self._import_ray(request)
        if len(os.listdir("/proc/self/task")) > 1:
            return "an imported module has started threads"
        return "every fork would draw the same random ids" if self._draw_alike else ""

    def _import_ray(self, request: StartRequest) -> None:
        os.environ.clear()
        os.environ.update(request.environment)
        self._environment = request.environment
        self._imports.ray()
        self._ray_imported = True
        self._draw_alike = self._imports.forks_draw_alike()

    def _begin(self, connection: socket.socket, request: StartRequest, files: Sequence[int]) -> Fork:
        """In the fork: nothing of the server is left, and the command knows."""
        for file in (*self._forks, self._owner):
            os.close(file)
        self._listening.close()
        try:
            # Without a timeout: once the command has said GO, this must be the worker.
            connection.settimeout(None)
            connection.sendall(READY)
            going = connection.recv(1) == GO
        except OSError:
            going = False
        if not going:
            os._exit(1)  # the command has died, or has become the worker
        return request, files

    def _reap(self, fork: int) -> None:
        os.waitid(os.P_PIDFD, fork, os.WEXITED)
        os.close(fork)
        self._forks.discard(fork)


def _receive(connection: socket.socket, files: list[int]) -> StartRequest:
    """One request; `files` takes what comes with it. Raises ValueError for what is no request, OSError when none comes."""
    header, received, _, _ = socket.recv_fds(connection, HEADER.size, _FILES)
    files.extend(received)
    if len(header) < HEADER.size or len(files) != _FILES:
        raise ValueError("no start request: it begins with something else")
    (size,) = HEADER.unpack(header)
    if size > MAX_REQUEST_BYTES:
        raise ValueError(f"a start request of {size} bytes")
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ValueError("a start request that ends early")
        data += part
    return StartRequest.decode(bytes(data))


def _is_ours(connection: socket.socket) -> bool:
    """Whether a process of this user is at the other end."""
    _, user, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return bool(user == os.getuid())
