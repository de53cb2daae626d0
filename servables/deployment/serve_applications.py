"""Serve's control plane, as far as Aspired uses it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import serve

MAX_MESSAGE_BYTES = 2**31 - 1
DELETE_POLL_S = 0.1
DELETE_TIMEOUT_S = 40.0

SERVE_ENVIRONMENT: Mapping[str, str] = {
    # Without these two a deletion takes 30 s, and every replica opens ports of its own.
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
    # Frames go over Serve's gRPC transport, whose limit of 4 MB is too small for tensors.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(MAX_MESSAGE_BYTES),
    # One event loop for Serve's part and ours: nothing of ours blocks it, and every thread hop saved is latency.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}
"""Environment of the replicas that we deploy; others on the cluster keep theirs."""

# Serve's client keeps state between the steps of a deployment, so one thread at a time.
_serve_lock = threading.Lock()


def start_serve() -> bool:
    """Starts Serve without proxies unless it runs already; True when it was started here. Blocks."""
    running = _runs()
    serve.start(proxy_location="Disabled")
    return not running


def _runs() -> bool:
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


class ServeApplications:
    """Deploys and deletes Serve applications without waiting for them; for use on an event loop.

    A deployment's code version is fixed to the application's name: deploying the application again changes the set of its
    deployments and their replica counts, and restarts nothing that stays (docs/architecture.md says how that was found).
    """

    async def deploy(self, name: str, deployments: Sequence[Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        """Makes the application consist of exactly these deployments, each bound to its arguments."""
        await asyncio.to_thread(self._deploy, name, deployments, arguments)

    def _deploy(self, name: str, deployments: Sequence[Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        bound = [
            # `_internal`: the public API would give each deployment a new random version and so restart all replicas.
            deployment.options(version=name, _internal=True).bind(*args)
            for deployment, args in zip(deployments[1:], arguments[1:], strict=True)
        ]
        # An application is a tree; the others hang from the first one's arguments.
        root = deployments[0].options(version=name, _internal=True).bind(*arguments[0], *bound)
        with _serve_lock:
            serve.run_many(
                [serve.RunTarget(root, name=name, route_prefix=None)],
                wait_for_ingress_deployment_creation=False,
                wait_for_applications_running=False,
            )

    async def names(self) -> list[str]:
        """The names of all applications on the cluster, other people's too."""
        return list(await asyncio.to_thread(lambda: serve.status().applications))

    async def failure(self, name: str) -> str | None:
        """Serve's own account of why the application cannot be deployed, None while there is hope."""
        application = (await asyncio.to_thread(lambda: serve.status().applications)).get(name)
        if application is None or application.status != "DEPLOY_FAILED":
            return None
        messages = [deployment.message for deployment in application.deployments.values() if deployment.message]
        return " ".join([*messages, application.message]).strip() or "Serve could not deploy the application"

    async def delete(self, name: str, replica_actors: Sequence[str] = ()) -> None:
        """Deletes the application and returns when it is gone; `replica_actors` are killed rather than asked to stop."""
        await asyncio.to_thread(self._delete, name, replica_actors)

    def _delete(self, name: str, replica_actors: Sequence[str]) -> None:
        with _serve_lock:
            if name not in serve.status().applications:
                return
            serve.delete(name, _blocking=False)
        for actor in replica_actors:
            try:
                ray.kill(ray.get_actor(actor, namespace="serve"))
            except ValueError:
                pass  # gone already
        deadline = time.monotonic() + DELETE_TIMEOUT_S
        while name in serve.status().applications and time.monotonic() < deadline:
            time.sleep(DELETE_POLL_S)


def replica_actor_name(application: str, deployment: str, replica_id: str) -> str:
    """The name that Serve gives a replica's actor."""
    return f"SERVE_REPLICA::{application}#{deployment}#{replica_id}"
