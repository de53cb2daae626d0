"""What a model version is to the data plane: something with signatures that can be run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import Unimplemented
from servables.profile import ProfileOptions
from servables.signatures import Signature

Array = NDArray[np.generic]
"""Any numpy array. Strings are arrays of dtype object that hold `bytes`."""


@dataclass(frozen=True, slots=True)
class PlatformOptions:
    """What a platform may need to know to load a version; each platform reads what concerns it.

    `session_config` is a serialized ConfigProto; the numbers of threads, where they are not 0, win over it. With -1 threads
    between ops a graph runs in the thread that asks for it.
    `gpu` is the index of the device that the process may use (already visible as its only one), None on CPUs.
    """

    saved_model_tags: tuple[str, ...] = ("serve",)
    intra_op_parallelism_threads: int = 0
    inter_op_parallelism_threads: int = 0
    session_config: bytes = b""
    gpu: int | None = None
    gpu_memory_bytes: int | None = None
    prefer_tflite_model: bool = False
    num_tflite_pools: int = 1
    num_tflite_interpreters_per_pool: int = 1


class Servable(ABC):
    """One loaded version. Owned by one replica; `run` is called from several threads at once."""

    @property
    @abstractmethod
    def signatures(self) -> Mapping[str, Signature]:
        """Signature name -> signature; fixed for the life of the servable."""

    @property
    @abstractmethod
    def deterministic(self) -> bool:
        """True when running a request a second time is harmless: no op of the graph keeps state."""

    @abstractmethod
    def run(
        self, signature_name: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, Array]:
        """Runs one signature and blocks until it is done.

        `inputs` maps input aliases to arrays, shapes as sent by the client: only what the platform itself checks is checked.
        `outputs` names the output aliases to compute, all of them known to the signature; no other is computed.
        Raises AspiredError with the code and text of the platform's own error, DeadlineExceeded after `timeout_s`.
        """

    @property
    def caller_thread_signatures(self) -> frozenset[str]:
        """Signatures of which some requests run in the thread that asks for them, as found out so far; for people."""
        return frozenset()

    def profile(self, options: ProfileOptions) -> bytes:
        """Records what the process does, requests included, and blocks meanwhile; returns a serialized XSpace.

        Raises Unimplemented where the platform has no profiler, AlreadyExists while another trace is being recorded.
        """
        raise Unimplemented("The platform of this model has no profiler.")

    @abstractmethod
    def close(self) -> None:
        """Gives back what the servable holds. Nothing runs any more when it is called."""


class Platform(ABC):
    """A kind of model: knows how to turn a version's directory into a `Servable`. Registered in `servables.platforms`."""

    name: str

    @abstractmethod
    def check(self, path: str, options: PlatformOptions) -> None:
        """Cheap look at the files, in a process without the platform's libraries: raises NotFound for what can never load."""

    @abstractmethod
    def load(self, path: str, options: PlatformOptions) -> Servable:
        """Loads the version; blocks, may take minutes. Raises AspiredError."""
