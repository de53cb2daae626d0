"""How the calls of the API are written and read on one protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from cluster.client.examples import Example
from cluster.client.exchange import WireRequest
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.model_status import VersionStatus
from cluster.client.results import Array, Classifications, Prediction, Regressions
from servables.signatures import Signature


class Codec(ABC):
    """Requests to bytes and replies from bytes; holds no state and does no IO.

    Encoders raise InvalidArgument for what the protocol cannot carry. Decoders raise Internal for a reply that is not
    what the server was asked for.
    """

    @abstractmethod
    def encode_predict(
        self,
        spec: ModelSpec,
        signature_name: str,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> WireRequest:
        """`inputs` already have the signature's dtypes; empty `outputs` means all."""

    @abstractmethod
    def decode_prediction(self, body: bytes, signature: Signature, outputs: Sequence[str]) -> Prediction:
        """The outputs asked for, with the signature's dtypes where the reply does not tell them."""

    @abstractmethod
    def encode_classify(
        self, spec: ModelSpec, signature_name: str, examples: Sequence[Example], context: Example | None
    ) -> WireRequest: ...

    @abstractmethod
    def decode_classifications(self, body: bytes) -> Classifications: ...

    @abstractmethod
    def encode_regress(
        self, spec: ModelSpec, signature_name: str, examples: Sequence[Example], context: Example | None
    ) -> WireRequest: ...

    @abstractmethod
    def decode_regressions(self, body: bytes) -> Regressions: ...

    @abstractmethod
    def encode_status(self, spec: ModelSpec) -> WireRequest: ...

    @abstractmethod
    def decode_statuses(self, body: bytes) -> list[VersionStatus]:
        """Newest version first."""

    @abstractmethod
    def encode_metadata(self, spec: ModelSpec) -> WireRequest: ...

    @abstractmethod
    def decode_metadata(self, body: bytes) -> ModelMetadata: ...
