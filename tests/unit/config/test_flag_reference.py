from __future__ import annotations

from pathlib import Path

from cluster.config.flag_reference import flag_reference
from cluster.config.server_options import SERVER_FLAGS


def test_the_page_is_what_the_flags_say() -> None:
    page = Path(__file__).parents[3] / "docs" / "flags.md"
    assert page.read_text() == flag_reference(), "run: python -m cluster.config.flag_reference > docs/flags.md"


def test_every_flag_is_on_the_page() -> None:
    reference = flag_reference()
    assert all(f"| `{flag.usage}` |" in reference for flag in SERVER_FLAGS.values())
