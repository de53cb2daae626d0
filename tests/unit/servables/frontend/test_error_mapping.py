from __future__ import annotations

import pytest

from servables.frontend.error_mapping import grpc_message


@pytest.mark.parametrize("text", ["a" * 1024, "ä" * 512, ""])
def test_a_message_that_fits_is_whole(text: str) -> None:
    assert grpc_message(text) == text


def test_a_longer_message_is_cut_between_characters() -> None:
    assert grpc_message("a" * 1025) == "a" * 1024 + "...TRUNCATED"
    assert grpc_message("a" + "ä" * 512) == "a" + "ä" * 511 + "...TRUNCATED"


@pytest.mark.parametrize("length", [1, 2000])
def test_a_message_with_half_a_character_can_be_sent(length: int) -> None:
    """A file's name that is no UTF-8 has such in Python."""
    assert grpc_message("\udcff" * length).startswith("?")
    grpc_message("\udcff" * length).encode()
