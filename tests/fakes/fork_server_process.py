"""A fork server in a process of its own, without Ray and TensorFlow; its argument is the process that it ends with."""

from __future__ import annotations

from servables.fork_server.fork_server import main
from servables.fork_server.imports import Imports


class NoImports(Imports):
    def tensorflow(self) -> None: ...

    def ray(self) -> None: ...

    def forks_draw_alike(self) -> bool:
        return False


if __name__ == "__main__":
    main(NoImports())
