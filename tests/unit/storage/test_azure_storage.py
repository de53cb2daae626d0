from __future__ import annotations

import pytest

from cluster.core.errors import InvalidArgument, Unauthenticated, Unavailable
from cluster.storage.azure_storage import AzureStorage, azure_config
from cluster.storage.object_storage import Patience

HASTY = Patience(connect_timeout_s=0.5, read_timeout_s=0.5, retries=0)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECTION_STRING", "ACCOUNT", "ACCOUNT_NAME", "KEY", "SAS_TOKEN"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=a2V5==;EndpointSuffix=core.windows.net",
            {"account_name": "acct", "endpoint": "https://acct.blob.core.windows.net", "account_key": "a2V5=="},
        ),
        (
            "BlobEndpoint=https://acct.blob.core.windows.net/;SharedAccessSignature=?sv=1&sig=x%3D",
            {"account_name": "acct", "endpoint": "https://acct.blob.core.windows.net", "sas_key": "sv=1&sig=x%3D"},
        ),
        (
            "AccountName=acct;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:10000/acct;",
            {"account_name": "acct", "endpoint": "http://127.0.0.1:10000/acct", "account_key": "a2V5"},
        ),
    ],
)
def test_a_connection_string_says_account_endpoint_and_credentials(text: str, expected: dict[str, str]) -> None:
    assert azure_config({"AZURE_STORAGE_CONNECTION_STRING": text}) == expected


def test_the_emulators_connection_string_is_known() -> None:
    config = azure_config({"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"})
    assert config["endpoint"] == "http://127.0.0.1:10000/devstoreaccount1"


def test_the_variables_of_azures_command_line_are_known() -> None:
    environment = {"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_KEY": "a2V5"}
    assert azure_config(environment) == {"account_name": "acct", "account_key": "a2V5"}


def test_a_key_goes_to_its_own_account_only() -> None:
    environment = {"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_KEY": "a2V5"}
    assert azure_config(environment, "other", "https://other") == {"account_name": "other", "endpoint": "https://other"}
    assert azure_config(environment, "acct", "https://acct")["account_key"] == "a2V5"


def test_a_connection_string_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(InvalidArgument, match="copy the whole string") as refusal:
        azure_config({"AZURE_STORAGE_CONNECTION_STRING": "SECRET=1"})
    assert "SECRET" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "Account must be specified"),
        ({"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_KEY": "SECRET is no base 64"}, "Invalid Access Key"),
        ({"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_SAS_TOKEN": "SECRET"}, "Missing component in SAS"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    settings: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unauthenticated, match=rf"az://models/m: .*{expected}.*set AZURE_STORAGE_CONNECTION_STRING") as refusal:
        AzureStorage(HASTY).children("az://models/m")
    assert "SECRET" not in str(refusal.value)


def test_settings_are_looked_at_again_once_they_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = AzureStorage(HASTY)
    with pytest.raises(Unauthenticated):
        storage.children("az://models/m")
    nobody_there = "AccountName=acct;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:1/acct"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", nobody_there)
    with pytest.raises(Unavailable, match="cannot be reached"):
        storage.children("az://models/m")
