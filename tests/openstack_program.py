"""The program `openstack` with the plugin of this checkout: as an installation registers it, without one."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from vmsvc import __version__

ROOT = Path(__file__).parents[1]
OPENSTACK = Path(sys.executable).parent / "openstack"


def register(folder: Path) -> dict[str, str]:
    """Write what an installer writes about the plugin into a folder. Returns the environment in which Python finds it,
    and the checkout."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    found = folder / f"vmsvc-{__version__}.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vmsvc\nVersion: {__version__}\n", encoding="utf-8")
    (found / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "VMSVC_"))}
    # Without a home no list of plugins that stevedore keeps there is in the way.
    return {**kept, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))), "HOME": str(folder)}


def run(environ: dict[str, str], *arguments: str, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run `openstack` to its end."""
    return subprocess.run(
        [OPENSTACK, *arguments], env=environ, capture_output=True, text=True, timeout=seconds, check=False
    )
