"""How much requests of one protocol take, from their arrival until they are answered."""

from __future__ import annotations

from cluster.core.errors import Unavailable


class HeldBytes:
    """Counts them. A request that nothing else is held with may be larger than the limit."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        """What is taken and not given back."""

    def take(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        self.size_bytes -= size_bytes

    def check(self, own_bytes: int) -> None:
        """Raises Unavailable when there is no room for a request of which `own_bytes` are among those that are taken."""
        if self.size_bytes > max(own_bytes, self.max_bytes):
            raise Unavailable(
                f"The server holds requests of {self.size_bytes - own_bytes} bytes that have no answer yet, "
                f"the limit is {self.max_bytes}. Retry later with backoff."
            )
