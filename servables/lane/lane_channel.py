"""A frontend's end of its lanes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import ssl
from collections.abc import Sequence

from cluster.core.errors import AspiredError, NotServing, ReplicaLost
from cluster.core.serving_map import Lane, ServableEntry
from servables.call import Call
from servables.frame import Buffer, decode_replies, encode_calls
from servables.frontend.frame_channel import FrameChannel, OnReplies
from servables.lane.lane_message import MAX_MESSAGE_BYTES, Kind, MessageProtocol, encode_call_ids, signature
from servables.profile import ProfileOptions

CONNECT_TIMEOUT_S = 5.0
RETRY_INTERVAL_S = 0.2

logger = logging.getLogger(__name__)


class LaneChannel(FrameChannel):
    """One version's frames, each on the connection to the replica with the least in flight.

    Connections are kept to every replica that the entry names, and made again when they break. While there is none, frames go
    by `fallback`, which also waits for a replica that has died.
    """

    def __init__(
        self,
        entry: ServableEntry,
        frontend_id: str,
        node_id: str,
        fallback: FrameChannel,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`node_id` is the node that this process is on: replicas there are reached by their sockets."""
        self._id = entry.id
        self._frontend_id = frontend_id
        self._node_id = node_id
        self._fallback = fallback
        self._tls = tls
        self._routes: dict[Lane, _LaneRoute] = {}
        self._numbers = itertools.count(1)
        self._falling_back = 0
        self._follow(entry)

    async def send(self, calls: Sequence[Call], on_replies: OnReplies) -> None:
        connection = self._connection()
        if connection is None:
            self._falling_back += 1
            try:
                await self._fallback.send(calls, on_replies)
            finally:
                self._falling_back -= 1
            return
        await connection.send(next(self._numbers) & 0xFFFFFFFF, calls, on_replies)

    def cancel(self, call_ids: Sequence[int]) -> None:
        for route in self._routes.values():
            if route.connection is not None and route.connection.in_flight:
                route.connection.write(Kind.CANCEL, 0, (encode_call_ids(call_ids),))
        if self._falling_back:
            self._fallback.cancel(call_ids)

    async def profile(self, options: ProfileOptions) -> bytes:
        return await self._fallback.profile(options)

    def update(self, entry: ServableEntry) -> None:
        self._fallback.update(entry)
        self._follow(entry)

    async def close(self) -> None:
        for route in self._routes.values():
            route.close()
        self._routes = {}
        await self._fallback.close()

    def _connection(self) -> _ClientConnection | None:
        """The one with the least in flight; None when there is none."""
        best: _ClientConnection | None = None
        for route in self._routes.values():
            connection = route.connection
            if connection is not None and (best is None or connection.in_flight < best.in_flight):
                best = connection
        return best

    def _follow(self, entry: ServableEntry) -> None:
        lanes = {
            lane
            for endpoint in entry.endpoints
            for lane in endpoint.lanes
            if lane.port or lane.node_id == self._node_id  # else there is no way to it
        }
        for lane in self._routes.keys() - lanes:
            self._routes.pop(lane).retire()
        for lane in lanes - self._routes.keys():
            self._routes[lane] = _LaneRoute(self._id, lane, self._frontend_id, lane.node_id == self._node_id, self._tls)


class _LaneRoute:
    """The way to one replica: a connection, or the attempts to make one."""

    def __init__(self, servable: object, lane: Lane, frontend_id: str, local: bool, tls: ssl.SSLContext | None) -> None:
        self._servable = servable
        self._lane = lane
        self._frontend_id = frontend_id
        self._local = local
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self.connection: _ClientConnection | None = None
        self._ended = False
        self._connecting: asyncio.Task[None] | None = self._loop.create_task(self._connect())

    def retire(self) -> None:
        """No new frames; those under way are waited for."""
        self._ended = True
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close_when_idle()

    def close(self) -> None:
        """Frames under way end in ReplicaLost."""
        connection = self.connection
        self.retire()
        if connection is not None:
            connection.abort()

    async def _connect(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    connection = await self._open()
                    await connection.ready
            except (OSError, TimeoutError, ssl.SSLError, ReplicaLost) as error:
                logger.debug("no lane to %s yet: %r", self._servable, error)
                await asyncio.sleep(RETRY_INTERVAL_S)
            else:
                self._connecting = None
                self.connection = connection
                connection.on_disconnect = self._disconnected
                return

    async def _open(self) -> _ClientConnection:
        def make() -> _ClientConnection:
            return _ClientConnection(self._servable, self._lane.secret, self._frontend_id)

        if self._local:
            _, connection = await self._loop.create_unix_connection(make, sock=await _connected(self._lane.path))
        else:
            tls = self._tls if self._lane.encrypted else None
            _, connection = await self._loop.create_connection(make, self._lane.host, self._lane.port, ssl=tls)
        return connection

    def _disconnected(self) -> None:
        self.connection = None
        if not self._ended:
            self._connecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        await asyncio.sleep(RETRY_INTERVAL_S)
        await self._connect()


class _SentFrame:
    __slots__ = ("done", "left", "on_replies")

    def __init__(self, calls: int, on_replies: OnReplies, done: asyncio.Future[None]) -> None:
        self.left = calls
        self.on_replies = on_replies
        self.done = done


class _ClientConnection(MessageProtocol):
    """`in_flight` counts calls that have no reply yet."""

    def __init__(self, servable: object, secret: bytes, frontend_id: str) -> None:
        super().__init__()
        self._servable = servable
        self._secret = secret
        self._frontend_id = frontend_id
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.on_disconnect = _nothing
        self.in_flight = 0
        self._frames: dict[int, _SentFrame] = {}
        self._closing = False
        self._lost = False

    async def send(self, number: int, calls: Sequence[Call], on_replies: OnReplies) -> None:
        if self._lost:
            raise ReplicaLost(f"The connection to a replica of {self._servable} is gone")
        frame = _SentFrame(len(calls), on_replies, self._loop.create_future())
        self._frames[number] = frame
        self.in_flight += frame.left
        try:
            self.write(Kind.CALLS, number, encode_calls(calls))
            await frame.done
        except asyncio.CancelledError:
            self.write(Kind.CANCEL, 0, (encode_call_ids([call.call_id for call in calls]),))
            raise
        finally:
            self.in_flight -= frame.left
            del self._frames[number]
            if self._closing and not self._frames:
                self.abort()

    def close_when_idle(self) -> None:
        self._closing = True
        if not self._frames:
            self.abort()

    def message_received(self, kind: Kind, number: int, payload: Buffer) -> None:
        if kind is Kind.CHALLENGE and not self.ready.done():
            self.write(Kind.HELLO, 0, (signature(self._secret, bytes(payload)), self._frontend_id.encode()))
            self.max_message_bytes = MAX_MESSAGE_BYTES
            self.ready.set_result(None)
            return
        frame = self._frames.get(number)
        if frame is None or frame.done.done():
            return  # its caller has gone
        if kind is Kind.NOT_SERVING:
            frame.done.set_exception(NotServing(f"{self._servable} is being unloaded"))
        elif kind is Kind.REPLIES:
            try:
                replies = decode_replies(payload)
            except AspiredError as error:
                logger.error("a replica of %s sent what is no frame: %s", self._servable, error)
                self.abort()
                return
            frame.left -= len(replies)
            self.in_flight -= len(replies)
            frame.on_replies(replies)
            if not frame.left:
                frame.done.set_result(None)

    def disconnected(self) -> None:
        self._lost = True
        error = ReplicaLost(f"A replica of {self._servable} was lost while it held the request")
        if not self.ready.done():
            self.ready.set_exception(error)
        for frame in self._frames.values():
            if not frame.done.done():
                frame.done.set_exception(error)
        self.on_disconnect()


async def _connected(path: str) -> socket.socket:
    """Made here for the same reason as the replica's (`LaneServer.start`)."""
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(connecting, path)
    except BaseException:
        connecting.close()
        raise
    return connecting


def _nothing() -> None:
    pass
