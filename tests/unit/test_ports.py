from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import Unavailable
from cluster.ports import check_alts

_PRODUCT = Path("/sys/class/dmi/id/product_name")
ON_GOOGLE_CLOUD = _PRODUCT.exists() and _PRODUCT.read_text().startswith("Google")


@pytest.mark.skipif(ON_GOOGLE_CLOUD, reason="there is ALTS here")
def test_alts_is_refused_where_there_is_none() -> None:
    with pytest.raises(Unavailable, match=r"^--use_alts_credentials: .* use --ssl_config_file for TLS$"):
        check_alts()
