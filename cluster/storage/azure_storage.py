"""Containers of Azure Blob Storage and of Data Lake Storage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from cluster.core.errors import InvalidArgument
from cluster.core.object_uri import ObjectUri, parse_azure_uri
from cluster.storage.object_error import StoreAdvice
from cluster.storage.object_storage import WritableObjectStorage

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore

# The account and key of every emulator: public, in Azure's own documentation.
_EMULATOR = (
    "AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1"
)
# The names that Azure's command line knows, where the library has others. What it knows itself it reads itself.
_VARIABLES: Mapping[str, str] = {"AZURE_STORAGE_ACCOUNT": "account_name", "AZURE_STORAGE_KEY": "account_key"}


class AzureStorage(WritableObjectStorage):
    """`az://container/prefix`, `abfss://container@account...` and `https://account.blob.core.windows.net/container/prefix`.

    Credentials are those of AZURE_STORAGE_CONNECTION_STRING; else the account's key (AZURE_STORAGE_KEY), a SAS token
    (AZURE_STORAGE_SAS_TOKEN), a service principal (AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_CLIENT_SECRET), a workload identity
    (AZURE_FEDERATED_TOKEN_FILE), or the node's managed identity.
    """

    advice: ClassVar[StoreAdvice] = StoreAdvice(
        "Azure Storage",
        "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or "
        "give the node a managed identity",
        "it takes the role Storage Blob Data Reader on the container, and Storage Blob Data Contributor to publish",
    )

    def uri(self, path: str) -> ObjectUri:
        return parse_azure_uri(path)

    def open(self, uri: ObjectUri) -> AzureStore:
        from obstore.store import AzureStore

        config = azure_config(os.environ, uri.account, uri.endpoint)
        options = self.client_options(allow_http=config.get("endpoint", "").startswith("http://"))
        return AzureStore(uri.bucket, config=config, client_options=options, retry_config=self.retry_config())


def azure_config(environment: Mapping[str, str], account: str = "", endpoint: str = "") -> AzureConfig:
    """The settings that the library does not find for itself. The account and endpoint of a path that names them go first.

    A connection string or a key of another account than the path's is left alone. Raises InvalidArgument for a connection
    string without an account.
    """
    config: AzureConfig = {}
    connection = environment.get("AZURE_STORAGE_CONNECTION_STRING", "")
    if connection:
        config = _connection(connection)
    else:
        for variable, name in _VARIABLES.items():
            if value := environment.get(variable):
                config[name] = value  # type: ignore[literal-required]
    if account:
        if config.get("account_name", account) != account:
            config = {}
        config["account_name"] = account
        config.setdefault("endpoint", endpoint)
    return config


def _connection(text: str) -> AzureConfig:
    fields = dict(part.partition("=")[::2] for part in text.strip().split(";") if part)
    if fields.get("UseDevelopmentStorage", "").lower() == "true":
        return _connection(_EMULATOR)
    account = fields.get("AccountName", "")
    endpoint = fields.get("BlobEndpoint", "").rstrip("/")
    if not endpoint and account:
        protocol, suffix = fields.get("DefaultEndpointsProtocol", "https"), fields.get("EndpointSuffix", "core.windows.net")
        endpoint = f"{protocol}://{account}.blob.{suffix}"
    account = account or endpoint.partition("://")[2].partition(".")[0]
    if not account:
        raise InvalidArgument("AZURE_STORAGE_CONNECTION_STRING has neither AccountName nor BlobEndpoint: copy the whole string")
    config: AzureConfig = {"account_name": account, "endpoint": endpoint}
    if key := fields.get("AccountKey"):
        config["account_key"] = key
    if signature := fields.get("SharedAccessSignature"):
        config["sas_key"] = signature.removeprefix("?")
    return config
