"""A replica's end of its lanes."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import shutil
import socket
import ssl
import struct
import sys
import tempfile
from collections.abc import Iterable
from typing import Protocol

from cluster.core.errors import AspiredError, NotServing
from cluster.core.serving_map import Lane
from servables.call import Call, Reply
from servables.frame import Buffer, decode_calls, encode_replies
from servables.lane.lane_message import (
    MAX_MESSAGE_BYTES,
    NONCE_BYTES,
    SIGNATURE_BYTES,
    Kind,
    MessageProtocol,
    decode_call_ids,
    signature,
)
from servables.runner import OnReply, Submission

HELLO_TIMEOUT_S = 5.0
_SECRET_BYTES = 32
_SOCKETS_WITHOUT_FILES = sys.platform == "linux"
_UCRED = struct.Struct("3i")

logger = logging.getLogger(__name__)


class LaneWork(Protocol):
    """What a replica does with frames, however they come."""

    def enter(self, calls: int, size_bytes: int) -> None:
        """So many calls are about to be submitted. Raises NotServing when no more are taken."""

    def submit(self, call: Call, on_reply: OnReply) -> Submission:
        """As `Runner.submit`, for a call that has entered."""

    def replied(self, size_bytes: int) -> None:
        """So many bytes of replies go back."""

    def leave(self, calls: int) -> None:
        """The replies of so many calls have left this process, or nobody wants them any more."""


class LaneServer:
    """Listens on a UNIX socket for frontends on the same node, and on TCP for the others. On one event loop.

    The UNIX socket takes processes of this user alone. On either, a frontend has to know the secret that is in the serving map.
    """

    def __init__(self, replica_id: str, work: LaneWork) -> None:
        self._replica_id = replica_id
        self._work = work
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._servers: list[asyncio.Server] = []
        self._directory = ""
        self._connections: set[_ServerConnection] = set()

    async def start(self, node_id: str, host: str, tls: ssl.SSLContext | None = None) -> Lane:
        """Listens, and says where. `host` is the address under which other nodes know this one; empty: no TCP."""
        loop = asyncio.get_running_loop()
        path = self._path()
        # Made here, since uvloop cuts the name of a socket without a file at its first byte.
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listening.bind(path)
        self._servers.append(await loop.create_unix_server(self._connection, sock=listening))
        port = 0
        if host:
            handshake_s = HELLO_TIMEOUT_S if tls is not None else None
            server = await loop.create_server(self._connection, host, 0, ssl=tls, ssl_handshake_timeout=handshake_s)
            self._servers.append(server)
            port = server.sockets[0].getsockname()[1]
        return Lane(self._replica_id, node_id, path, host, port, self._secret, encrypted=tls is not None)

    async def close(self) -> None:
        """Listens no more and ends all connections; calls under way are dropped if they have not begun."""
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.abort()
        if self._directory:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    def _path(self) -> str:
        """Where there are sockets without files, one of these: a replica that is killed leaves none behind."""
        if _SOCKETS_WITHOUT_FILES:
            return f"\0aspired-lane-{secrets.token_hex(16)}"
        self._directory = tempfile.mkdtemp(prefix="aspired-lane-")  # this user's alone
        return os.path.join(self._directory, "lane")

    def _connection(self) -> _ServerConnection:
        return _ServerConnection(self._work, self._secret, self._connections)


class _Frame:
    """A frame under way: the replies that have not been sent yet."""

    __slots__ = ("done", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.done: list[Reply] = []


class _ServerConnection(MessageProtocol):
    def __init__(self, work: LaneWork, secret: bytes, connections: set[_ServerConnection]) -> None:
        super().__init__()
        self._work = work
        self._secret = secret
        self._connections = connections
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._known = False
        self._loop = asyncio.get_running_loop()
        self._stranger: asyncio.TimerHandle | None = None
        self._submissions: dict[int, Submission] = {}
        # Calls whose replies the system has not taken yet: a replica that ended now would lose them.
        self._unsent_calls = 0
        self._writing_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._transport is not None
        self._connections.add(self)
        if not _is_ours(transport.get_extra_info("socket")):
            logger.warning("a process of another user was refused")
            self.abort()
            return
        self._transport.set_write_buffer_limits(high=0)  # so that the loop says whenever something is left to write
        self._stranger = self._loop.call_later(HELLO_TIMEOUT_S, self.abort)
        self.write(Kind.CHALLENGE, 0, (self._nonce,))

    def message_received(self, kind: Kind, number: int, payload: Buffer) -> None:
        if not self._known:
            self._greet(kind, payload)
        elif kind is Kind.CALLS:
            self._take(number, payload)
        elif kind is Kind.CANCEL:
            self._cancel(decode_call_ids(payload))
        else:
            self.abort()

    def disconnected(self) -> None:
        self._connections.discard(self)
        if self._stranger is not None:
            self._stranger.cancel()
        self._cancel(tuple(self._submissions))
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        calls, self._unsent_calls = self._unsent_calls, 0
        if calls:
            self._work.leave(calls)

    def _greet(self, kind: Kind, payload: Buffer) -> None:
        signed = bytes(payload[:SIGNATURE_BYTES])
        if kind is not Kind.HELLO or not hmac.compare_digest(signed, signature(self._secret, self._nonce)):
            logger.warning("a connection that does not know the secret was refused")
            self.abort()
            return
        self._known = True
        self.max_message_bytes = MAX_MESSAGE_BYTES
        if self._stranger is not None:
            self._stranger.cancel()

    def _take(self, number: int, payload: Buffer) -> None:
        try:
            calls = decode_calls(payload)
        except AspiredError as error:
            logger.error("a frontend sent what is no frame: %s", error)
            self.abort()
            return
        try:
            self._work.enter(len(calls), len(payload))
        except NotServing:
            self.write(Kind.NOT_SERVING, number)
            return
        frame = _Frame(number)

        def on_reply(reply: Reply) -> None:
            self._submissions.pop(reply.call_id, None)
            if not frame.done:  # those that are done in this pass of the loop travel together
                self._loop.call_soon(self._send, frame)
            frame.done.append(reply)

        for call in calls:
            # A runner never answers within submit, so the reply finds the submission here.
            self._submissions[call.call_id] = self._work.submit(call, on_reply)

    def _send(self, frame: _Frame) -> None:
        replies, frame.done = frame.done, []
        buffers = encode_replies(replies)
        self._work.replied(sum(map(len, buffers)))
        self._unsent_calls += len(replies)
        self.write(Kind.REPLIES, frame.number, buffers)
        if not self._writing_paused:
            self.resume_writing()

    def _cancel(self, call_ids: Iterable[int]) -> None:
        for call_id in call_ids:
            submission = self._submissions.get(call_id)
            if submission is not None:
                submission.cancel()


def _is_ours(peer: socket.socket | None) -> bool:
    """Whether the process at the other end of a UNIX socket is this user's; TCP cannot tell."""
    if peer is None or peer.family != socket.AF_UNIX or not _SOCKETS_WITHOUT_FILES:
        return True  # elsewhere the directory keeps others out
    _, user, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return bool(user == os.getuid())
