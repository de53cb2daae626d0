"""gRPC's server reflection: which services there are and what their messages look like, for tools such as grpcurl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

from google.protobuf.descriptor import FileDescriptor

from cluster.core.errors import Code
from cluster.protos import POOL, ServerReflectionRequest, ServerReflectionResponse
from servables.frontend.grpc_method import GrpcService, StreamStream, parsed

REFLECTION_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The same service under two names; tools ask for the first and fall back to the second."""


class ReflectionService:
    """Describes services whose descriptors are in `cluster.protos`."""

    def __init__(self, services: Iterable[str]) -> None:
        """`services`: the full names of those that the server has, beside this one."""
        self._services = sorted({*services, *REFLECTION_SERVICES})
        self._draining = asyncio.Event()

    def services(self) -> Sequence[GrpcService]:
        return [
            GrpcService(name, {"ServerReflectionInfo": StreamStream(f"{name}/ServerReflectionInfo", self.info)})
            for name in REFLECTION_SERVICES
        ]

    def drain(self) -> None:
        """Ends the conversations under way, which a client may leave open as long as it likes."""
        self._draining.set()

    async def info(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        draining = asyncio.ensure_future(self._draining.wait())
        read: asyncio.Future[bytes | None] | None = None
        try:
            while True:
                read = asyncio.ensure_future(_next(requests))
                await asyncio.wait((read, draining), return_when=asyncio.FIRST_COMPLETED)
                if not read.done() or (request_bytes := read.result()) is None:
                    return
                yield self._answer(parsed(ServerReflectionRequest, request_bytes)).SerializeToString()
        finally:
            draining.cancel()
            if read is not None:
                read.cancel()

    def _answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        response = ServerReflectionResponse(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        try:
            if asked == "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            elif asked == "file_by_filename":
                _fill_files(response, POOL.FindFileByName(request.file_by_filename))
            elif asked == "file_containing_symbol":
                _fill_files(response, _file_containing(request.file_containing_symbol))
            elif asked == "all_extension_numbers_of_type":
                # proto3 messages have no extensions, so this is only about whether there is such a type.
                message = POOL.FindMessageTypeByName(request.all_extension_numbers_of_type)
                response.all_extension_numbers_response.base_type_name = message.full_name
            elif asked == "file_containing_extension":
                extension = request.file_containing_extension
                raise KeyError(f"{extension.containing_type} has no extension {extension.extension_number}")
            else:
                _fill_error(response, Code.INVALID_ARGUMENT, "The request asks for nothing.")
        except KeyError as error:
            _fill_error(response, Code.NOT_FOUND, str(error.args[0]))
        return response


async def _next(requests: AsyncIterator[bytes]) -> bytes | None:
    async for request_bytes in requests:
        return request_bytes
    return None


def _file_containing(symbol: str) -> FileDescriptor:
    try:
        return POOL.FindFileContainingSymbol(symbol)
    except KeyError:  # protobuf does not look for methods there
        return POOL.FindMethodByName(symbol).containing_service.file


def _fill_files(response: ServerReflectionResponse, file: FileDescriptor) -> None:
    """The file and all that it needs, each once."""
    files: dict[str, FileDescriptor] = {}
    waiting = [file]
    while waiting:
        needed = waiting.pop()
        if needed.name not in files:
            files[needed.name] = needed
            waiting += needed.dependencies
    response.file_descriptor_response.file_descriptor_proto.extend(needed.serialized_pb for needed in files.values())


def _fill_error(response: ServerReflectionResponse, code: Code, message: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = message
