"""Takes connections from a listening socket, and leaves none behind when it stops."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_OPENING_S = 1.0


class Acceptor:
    """Of one socket. Not a server of the event loop: that would drop what it has accepted and not begun when it is closed."""

    def __init__(
        self,
        sock: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None = None,
        handshake_timeout_s: float | None = None,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """`sock` is bound and now belongs to the acceptor. Connections for which there is no room are closed at once."""
        self._socket = sock
        self._make_protocol = make_protocol
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s if tls is not None else None
        self._has_room = has_room
        self._openings: set[asyncio.Task[object]] = set()
        self._closed = False

    @property
    def opening(self) -> int:
        """How many connections have been accepted and have no protocol yet."""
        return len(self._openings)

    def start(self, backlog: int) -> None:
        if self._socket.family != socket.AF_UNIX:
            # Connections inherit it: in TIME_WAIT they must not keep the port from the next server.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._socket.listen(backlog)
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    async def stop(self) -> None:
        """Returns when all that was accepted has its protocol, or has failed; who is slow to agree on TLS is not waited for."""
        asyncio.get_running_loop().remove_reader(self._socket)
        # Closing a listening socket resets the connections in its accept queue, so none may be left there.
        self._accept()
        self._closed = True
        self._socket.close()
        if self._openings:
            _, slow = await asyncio.wait(self._openings, timeout=_OPENING_S)
            for opening in slow:
                opening.cancel()

    def _accept(self) -> None:
        """Accepts all that waits."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # No more files, most likely: the connections stay in the queue until some are closed.
                logger.error("Cannot accept connections: %s", error)
                loop.remove_reader(self._socket)
                loop.call_later(_RETRY_S, self._accept_again)
                return
            if not self._has_room():
                accepted.close()
                continue
            accepted.setblocking(False)
            opening: asyncio.Task[object] = loop.create_task(self._open(accepted))
            self._openings.add(opening)
            opening.add_done_callback(self._openings.discard)

    def _accept_again(self) -> None:
        if not self._closed:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    async def _open(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._make_protocol, accepted, ssl=self._tls, ssl_handshake_timeout=self._handshake_timeout_s
            )
        except (OSError, TimeoutError) as error:  # ssl's errors are OSErrors
            accepted.close()
            logger.debug("A connection was not opened: %s", error)
