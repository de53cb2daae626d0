"""The environments of the peers. The Ray Serve baselines need none: they run on the Ray and TensorFlow that Aspired runs on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cluster.core.errors import FailedPrecondition, Unavailable
from cluster.terminal import Terminal

PYTRITON_ENVIRONMENT = Path(".aspired/peers/pytriton")
_PYTRITON_PACKAGES = ("nvidia-pytriton==0.7.*", "tensorflow>=2.21,<2.22")
_SUITS = (
    "import ensurepip, sys, sysconfig; "
    "sys.exit(not (sysconfig.get_config_var('Py_ENABLE_SHARED') and (3, 10) <= sys.version_info[:2] < (3, 13)))"
)


def pytriton_python() -> Path | None:
    """The Python of pytriton's environment; None while it has not been made."""
    python = PYTRITON_ENVIRONMENT / "bin/python"
    return python if (PYTRITON_ENVIRONMENT / ".installed").exists() and python.exists() else None


def install_pytriton(terminal: Terminal) -> Path:
    """Makes the environment, once. Raises FailedPrecondition without a fitting Python, Unavailable when pip fails."""
    if (made := pytriton_python()) is not None:
        return made
    base = shared_python(_candidates())
    shutil.rmtree(PYTRITON_ENVIRONMENT, ignore_errors=True)
    python = PYTRITON_ENVIRONMENT / "bin/python"
    with terminal.step(f"installing pytriton with {base} in {PYTRITON_ENVIRONMENT} (3 GB of disk)"):
        for command in (
            [base, "-m", "venv", str(PYTRITON_ENVIRONMENT)],
            [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet", *_PYTRITON_PACKAGES],
        ):
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode:
                raise Unavailable(f"{' '.join(command)} has failed: {ended.stderr.strip()[-1000:]}")
    (PYTRITON_ENVIRONMENT / ".installed").touch()
    return python


def shared_python(candidates: Iterator[str]) -> str:
    """The first candidate that pytriton can run on. Raises FailedPrecondition when there is none."""
    for candidate in candidates:
        if subprocess.run([candidate, "-c", _SUITS], capture_output=True, check=False).returncode == 0:
            return candidate
    raise FailedPrecondition(
        "pytriton needs Python 3.10 to 3.12 with a shared libpython and ensurepip: install the distribution's "
        "(on Debian and Ubuntu: apt-get install python3-venv), or set PYTHON to one"
    )


def _candidates() -> Iterator[str]:
    names = ("python3", "python3.12", "python3.11", "python3.10")
    wanted = [os.environ.get("PYTHON"), *(f"/usr/bin/{name}" for name in names), *names]
    return (found for name in wanted if name and (found := shutil.which(name)))
