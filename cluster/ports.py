"""Ports that are to be listened on later."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cluster.core.errors import Unavailable


class HeldPorts:
    """Ports of this machine, bound but not listened on, from the check that they are free until the frontends have them.

    SO_REUSEPORT lets the frontends of the same user bind beside this process; nobody else gets in between.
    """

    def __init__(self, host: str, ports: Sequence[tuple[str, int]]) -> None:
        """`ports` are pairs of a flag's name and its port. Raises Unavailable, naming the flag, for one that is taken."""
        self._sockets: list[socket.socket] = []
        try:
            for flag, port in ports:
                _check_free(host, flag, port)
                self._sockets.append(_held(host, port))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        for held in self._sockets:
            held.close()
        self._sockets = []


def check_alts() -> None:
    """Raises Unavailable where gRPC has no ALTS to offer, which is anywhere but on Google Cloud."""
    import grpc  # seldom wanted here

    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        try:
            server.add_secure_port("127.0.0.1:0", grpc.alts_server_credentials())
        except RuntimeError as error:
            raise Unavailable(
                "--use_alts_credentials: there is no ALTS on this machine, since it works on Google Cloud only; "
                "leave the flag out, or use --ssl_config_file for TLS"
            ) from error
        finally:
            server.stop(None)


def _check_free(host: str, flag: str, port: int) -> None:
    # Without SO_REUSEPORT: with it a second server would bind silently and take half of the first one's connections.
    try:
        _bound(host, port, socket.SO_REUSEADDR).close()
    except OSError as error:
        raise Unavailable(
            f"port {port} cannot be used: {(error.strerror or str(error)).lower()}; "
            f"stop what listens there, or give another --{flag}"
        ) from error


def _held(host: str, port: int) -> socket.socket:
    try:
        return _bound(host, port, socket.SO_REUSEPORT)
    except OSError:
        # Connections of a server that has just ended linger; not from the start, or a check would not see this socket.
        return _bound(host, port, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bound(host: str, port: int, *options: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound
