"""Both ends of a lane over real sockets, with the conformance that every channel has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import stat
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from cluster.core.errors import NotServing, ReplicaLost
from cluster.core.metrics import MetricCells
from cluster.core.servable_id import ServableId
from cluster.core.serving_map import Endpoint, Lane, ServableEntry
from servables.call import Call
from servables.deployment.gated_runner import GatedRunner
from servables.deployment.replica_gate import ReplicaGate
from servables.direct_runner import DirectRunner
from servables.frontend.frame_channel import FrameChannel, OnReplies
from servables.lane import lane_server
from servables.lane.lane_channel import LaneChannel
from servables.lane.lane_message import Kind, MessageProtocol, signature
from servables.lane.lane_server import LaneServer
from servables.lane.lane_tls import client_tls, server_tls
from servables.run_metrics import FrameMetrics
from tests.fakes.certificates import CertificateAuthority
from tests.fakes.fake_servable import FakeServable, Gate
from tests.unit.servables.frontend.frame_channel_conformance import (
    HELD,
    PATIENCE_S,
    FrameChannelConformance,
    ReplicaUnderTest,
    Sent,
    call,
    failure,
    is_held,
    run,
)

SERVABLE = ServableId("m", 1)


class NoFallback(FrameChannel):
    """What frames go by while there is no lane: here they are refused, and counted."""

    def __init__(self) -> None:
        self.sent = 0

    async def send(self, calls: Sequence[Call], on_replies: OnReplies) -> None:
        self.sent += 1
        raise NotServing("there is no lane")

    def cancel(self, call_ids: Sequence[int]) -> None:
        pass

    def update(self, entry: ServableEntry) -> None:
        pass

    async def close(self) -> None:
        pass


def entry(*lanes: Lane) -> ServableEntry:
    return ServableEntry(SERVABLE, (Endpoint("a", "d", "node", len(lanes), lanes),))


class LaneReplica(ReplicaUnderTest):
    """A replica's lane server, and a channel to it from the same node or another one."""

    def __init__(self, name: str = "r") -> None:
        self.held = Gate()
        self.gate = ReplicaGate("m 1")
        self.left = asyncio.Event()
        self._runner = DirectRunner(FakeServable(run, gate=self.held, held=is_held, fails=failure), num_threads=2)
        work = GatedRunner(self._runner, self.gate, FrameMetrics(MetricCells()), self.left.set)
        self.server = LaneServer(name, work)
        self.fallback = NoFallback()

    async def start(self, tls: ssl.SSLContext | None = None) -> Lane:
        self.lane = await self.server.start("node", "127.0.0.1", tls)
        return self.lane

    async def connect(self, node_id: str = "node", tls: ssl.SSLContext | None = None) -> None:
        self.channel: LaneChannel = LaneChannel(entry(self.lane), "frontend", node_id, self.fallback, tls)
        await connected(self.channel)

    async def wait_until_held(self) -> None:
        await asyncio.to_thread(self.held.wait_until_reached)

    async def release(self) -> None:
        self.held.open()

    async def quiesce(self) -> None:
        self.gate.close()

    async def close(self) -> None:
        self.held.open()
        await self.server.close()
        await self._runner.close()


async def connected(channel: LaneChannel, lanes: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while sum(route.connection is not None for route in channel._routes.values()) < lanes:
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def served(
    node_id: str = "node", server: ssl.SSLContext | None = None, client: ssl.SSLContext | None = None
) -> AsyncIterator[LaneReplica]:
    replica = LaneReplica()
    await replica.start(server)
    await replica.connect(node_id, client)
    try:
        yield replica
    finally:
        await replica.channel.close()
        await replica.close()


class TestOnTheNode(FrameChannelConformance):
    @pytest_asyncio.fixture
    async def replica(self) -> AsyncIterator[ReplicaUnderTest]:
        async with served() as replica:
            yield replica


class TestBetweenNodes(FrameChannelConformance):
    @pytest_asyncio.fixture
    async def replica(self) -> AsyncIterator[ReplicaUnderTest]:
        async with served("another node") as replica:
            yield replica


class RayTls:
    """Ray's certificates in the environment, as `ray start` with TLS has them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self._monkeypatch = monkeypatch
        self._directory = directory
        self._authority = CertificateAuthority()

    def use(self) -> None:
        certificate = self._authority.issue("a node")
        files = {"CA_CERT": self._authority.cert, "SERVER_CERT": certificate.cert, "SERVER_KEY": certificate.key}
        self._monkeypatch.setenv("RAY_USE_TLS", "1")
        for name, pem in files.items():
            path = self._directory / name
            path.write_text(pem)
            self._monkeypatch.setenv(f"RAY_TLS_{name}", str(path))


@pytest.fixture
def ray_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RayTls:
    return RayTls(monkeypatch, tmp_path)


class TestEncryptedBetweenNodes(FrameChannelConformance):
    @pytest_asyncio.fixture
    async def replica(self, ray_tls: RayTls) -> AsyncIterator[ReplicaUnderTest]:
        ray_tls.use()
        async with served("another node", server_tls(), client_tls()) as replica:
            yield replica


def test_without_rays_tls_lanes_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    assert server_tls() is client_tls() is None


@pytest.mark.parametrize("node_id", ["node", "another node"])
async def test_tensors_of_any_size_arrive_whole(node_id: str) -> None:
    """Below and beyond what is joined, and what the inbox holds."""
    async with served(node_id) as replica:
        for values in (1, 1000, 20_000, 65_000, 70_000, 3_000_000):
            x = np.arange(values, dtype=np.float32) % 100
            calls = [Call(1, "serving_default", {"x": x}, ("y",)), call(2, 4)]
            replies = await Sent(replica.channel, calls).end()
            np.testing.assert_array_equal(replies[1].outputs["y"], x / 2 + 2)
            assert replies[2].outputs["y"].tolist() == [4]


async def test_many_frames_at_once_are_each_answered() -> None:
    rng = random.Random(1)
    async with served() as replica:

        async def ask(number: int) -> None:
            rows = rng.choice((1, 10, 50_000))
            x = np.full(rows, number % 100, np.float32)
            replies = await Sent(replica.channel, [Call(number, "serving_default", {"x": x}, ("y",))]).end()
            assert (replies[number].outputs["y"] == number % 100 / 2 + 2).all()

        await asyncio.gather(*(ask(number) for number in range(1, 300)))


async def test_frames_go_to_the_replica_with_the_least_in_flight() -> None:
    first, second = LaneReplica("a"), LaneReplica("b")
    channel = LaneChannel(entry(await first.start(), await second.start()), "frontend", "node", NoFallback())
    await connected(channel, 2)
    sent = [Sent(channel, [call(1, HELD)]), Sent(channel, [call(2, HELD)])]
    for replica in (first, second):
        await replica.wait_until_held()
    for replica in (first, second):
        await replica.release()
    for one in sent:
        await one.end()
    await channel.close()
    for replica in (first, second):
        await replica.close()


async def test_without_a_lane_frames_go_by_the_fallback() -> None:
    async with served() as replica:
        replica.channel.update(entry())
        with pytest.raises(NotServing, match="there is no lane"):
            await Sent(replica.channel, [call(1, 4)]).end()
        assert replica.fallback.sent == 1
        replica.channel.update(entry(replica.lane))
        await connected(replica.channel)
        assert (await Sent(replica.channel, [call(2, 4)]).end())[2].status.ok


async def test_a_lane_that_leaves_the_map_finishes_what_is_under_way() -> None:
    async with served() as replica:
        slow = Sent(replica.channel, [call(1, HELD)])
        await replica.wait_until_held()
        replica.channel.update(entry())
        await replica.release()
        assert (await slow.end())[1].status.ok


async def test_a_replica_that_dies_costs_what_it_held_and_the_next_one_is_connected_to() -> None:
    async with served() as replica:
        slow = Sent(replica.channel, [call(1, HELD)])
        await replica.wait_until_held()
        await replica.server.close()
        with pytest.raises(ReplicaLost):
            await slow.end()
        with pytest.raises(NotServing, match="there is no lane"):
            await Sent(replica.channel, [call(2, 4)]).end()
        successor = LaneReplica("successor")
        replica.channel.update(entry(await successor.start()))
        await connected(replica.channel)
        assert (await Sent(replica.channel, [call(3, 4)]).end())[3].status.ok
        await successor.close()


async def test_a_connection_that_breaks_is_made_again() -> None:
    async with served() as replica:
        for connection in list(replica.server._connections):
            connection.abort()
        async with asyncio.timeout(PATIENCE_S):
            while any(route.connection is not None for route in replica.channel._routes.values()):
                await asyncio.sleep(0.001)
        await connected(replica.channel)
        assert (await Sent(replica.channel, [call(1, 4)]).end())[1].status.ok


async def test_a_frontend_that_goes_drops_its_calls_and_leaves_the_gate() -> None:
    async with served() as replica:
        busy = [Sent(replica.channel, [call(number, HELD)]) for number in range(4)]
        for _ in range(2):
            await replica.wait_until_held()
        await replica.channel.close()
        for sent in busy:
            with pytest.raises(ReplicaLost):
                await sent.end()
        replica.gate.close()
        await replica.release()
        await asyncio.wait_for(replica.left.wait(), PATIENCE_S)


class _Client(MessageProtocol):
    """A connection of somebody who may not know the secret, and reads only when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.max_message_bytes = 1 << 30
        self.received: asyncio.Queue[tuple[Kind, bytes]] = asyncio.Queue()
        self.gone = asyncio.Event()

    def message_received(self, kind: Kind, number: int, payload: bytes | bytearray | memoryview) -> None:
        self.received.put_nowait((kind, bytes(payload)))

    def disconnected(self) -> None:
        self.gone.set()

    def send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def pause(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def resume(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()


async def connect(lane: Lane) -> _Client:
    connecting = socket.socket(socket.AF_UNIX)
    connecting.setblocking(False)
    connecting.connect(lane.path)
    _, client = await asyncio.get_running_loop().create_unix_connection(_Client, sock=connecting)
    return client


async def stranger(lane: Lane) -> tuple[_Client, bytes]:
    """Its connection, and the nonce that it is to sign."""
    client = await connect(lane)
    kind, nonce = await asyncio.wait_for(client.received.get(), PATIENCE_S)
    assert kind is Kind.CHALLENGE
    return client, nonce


async def test_replies_that_nobody_reads_keep_the_gate_until_they_are_sent() -> None:
    """A replica ends when its gate is empty: what the system has not taken by then would be lost."""
    from servables.frame import encode_calls, join

    async with served() as replica:
        client, nonce = await stranger(replica.lane)
        client.write(Kind.HELLO, 0, (signature(replica.lane.secret, nonce), b"slow"))
        client.pause()
        x = np.zeros(4_000_000, np.float32)
        client.write(Kind.CALLS, 1, (join(encode_calls([Call(1, "serving_default", {"x": x}, ("y",))])),))
        async with asyncio.timeout(PATIENCE_S):
            while not replica.gate.in_flight:
                await asyncio.sleep(0.001)
        replica.gate.close()
        # Something else has been answered since, and still the large reply is not out.
        assert not replica.left.is_set()
        client.resume()
        await asyncio.wait_for(replica.left.wait(), PATIENCE_S)
        kind, _ = await asyncio.wait_for(client.received.get(), PATIENCE_S)
        assert kind is Kind.REPLIES
        client.abort()


@pytest.mark.parametrize(
    "message",
    [
        lambda nonce, secret: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        lambda nonce, secret: struct.pack("<4sHHIQ", b"ASPL", 1, Kind.HELLO, 0, 32) + bytes(32),
        lambda nonce, secret: struct.pack("<4sHHIQ", b"ASPL", 1, Kind.HELLO, 0, 32) + signature(b"a guess", nonce),
        lambda nonce, secret: struct.pack("<4sHHIQ", b"ASPL", 1, Kind.CALLS, 1, 8) + bytes(8),
        lambda nonce, secret: struct.pack("<4sHHIQ", b"ASPL", 1, Kind.HELLO, 0, 1 << 40),
        lambda nonce, secret: struct.pack("<4sHHIQ", b"ASPL", 9, Kind.HELLO, 0, 32) + signature(secret, nonce),
        lambda nonce, secret: struct.pack("<4sHHIQ", b"ASPL", 1, 77, 0, 0),
    ],
    ids=["HTTP", "no signature", "a wrong secret", "no hello", "too much", "another version", "an unknown kind"],
)
async def test_who_does_not_know_the_secret_is_hung_up_on(message: Callable[[bytes, bytes], bytes]) -> None:
    async with served() as replica:
        client, nonce = await stranger(replica.lane)
        client.send(message(nonce, replica.lane.secret))
        await asyncio.wait_for(client.gone.wait(), PATIENCE_S)
        assert client.received.empty()
        assert (await Sent(replica.channel, [call(1, 4)]).end())[1].status.ok


async def test_an_old_signature_admits_nobody() -> None:
    async with served() as replica:
        first, nonce = await stranger(replica.lane)
        second, _ = await stranger(replica.lane)
        second.write(Kind.HELLO, 0, (signature(replica.lane.secret, nonce), b"replayed"))
        await asyncio.wait_for(second.gone.wait(), PATIENCE_S)
        first.abort()


async def test_bytes_that_are_no_frame_end_the_connection_and_nothing_else() -> None:
    rng = random.Random(2)
    async with served() as replica:
        for _ in range(50):
            client, nonce = await stranger(replica.lane)
            client.write(Kind.HELLO, 0, (signature(replica.lane.secret, nonce), b"fuzz"))
            client.write(rng.choice((Kind.CALLS, Kind.REPLIES, Kind.CHALLENGE)), 1, (rng.randbytes(rng.randrange(200)),))
            await asyncio.wait_for(client.gone.wait(), PATIENCE_S)
        assert (await Sent(replica.channel, [call(1, 4)]).end())[1].status.ok


async def test_a_socket_leaves_no_file_behind() -> None:
    replica = LaneReplica()
    lane = await replica.start()
    assert lane.path.startswith("\0")
    await replica.close()


async def test_where_sockets_are_files_they_are_this_users_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_server, "_SOCKETS_WITHOUT_FILES", False)
    async with served() as replica:
        directory = os.path.dirname(replica.lane.path)
        found = os.stat(directory)
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, os.getuid())
        assert (await Sent(replica.channel, [call(1, 4)]).end())[1].status.ok
    with pytest.raises(FileNotFoundError):
        os.stat(directory)


async def test_processes_of_other_users_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as replica:
        monkeypatch.setattr(os, "getuid", lambda: 12345)  # as seen by the replica
        client = await connect(replica.lane)
        await asyncio.wait_for(client.gone.wait(), PATIENCE_S)
        assert client.received.empty()


async def test_the_secret_is_in_no_text() -> None:
    replica = LaneReplica()
    lane = await replica.start()
    assert lane.secret.hex() not in repr(lane)
    assert repr(lane.secret) not in repr(entry(lane))
    await replica.close()


async def test_without_tcp_another_node_has_no_lane() -> None:
    replica = LaneReplica()
    lane = await replica.server.start("node", "")
    assert lane.port == 0
    channel = LaneChannel(entry(lane), "frontend", "another node", replica.fallback)
    with pytest.raises(NotServing, match="there is no lane"):
        await Sent(channel, [call(1, 4)]).end()
    assert not channel._routes
    await channel.close()
    await replica.close()


async def test_a_replica_that_cannot_be_reached_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_server, "_SOCKETS_WITHOUT_FILES", False)
    replica = LaneReplica()
    lane = await replica.start()
    away = replace(lane, path=lane.path + "-later")
    channel = LaneChannel(entry(away), "frontend", "node", replica.fallback)
    with pytest.raises(NotServing, match="there is no lane"):
        await Sent(channel, [call(1, 4)]).end()
    os.rename(lane.path, away.path)
    await connected(channel)
    assert (await Sent(channel, [call(2, 4)]).end())[2].status.ok
    await channel.close()
    await replica.close()
