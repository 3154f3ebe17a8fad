"""`make build`: builds the images and brings the installation to what the settings say, one replica after the other.

Nothing that runs is touched before all that can be checked is checked, and `.env` is written last: a build that fails
leaves containers and `.env` as they were. Needs Docker with `docker compose` or `docker-compose`, and the standard
library of Python 3.8 or newer. Settings come from the environment and from `.env` (see `settings.py`).
"""

import contextlib
import fcntl
import os
import signal
import sys
from pathlib import Path

from checks import check_ports, check_service
from engine import IMAGES, Engine, Failed
from handover import hand_over_balancer_config, hand_over_credentials
from rollout import Rollout
from settings import Refused, decide, parse, read_credentials, render
from undo import Undo

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def alone():
    """One build of a checkout at a time. Raises Refused."""
    with open(ROOT / "docker-compose.yml", "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused("another 'make build' of this checkout is under way") from None
        yield


def settle():
    """The settings of this build: what the shell says, over what `.env` remembers. Raises Refused."""
    env = ROOT / ".env"
    text = env.read_text(encoding="utf-8") if env.exists() else ""
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return text, decide(os.environ, parse(text), compose, read_credentials)


def bring_up(engine, settled, undo):
    """From what runs to what is wanted. Raises Failed; the caller then undoes what `undo` has."""
    before = engine.containers()
    undo.add("remove what was made", lambda: engine.remove_all_but(before))
    images = engine.images()
    undo.add("name the images as before", lambda: engine.name_images(images))
    engine.build([name for name in settled.services if name in IMAGES])
    check_ports(engine, settled.ports, before)
    made = engine.create(settled.services, settled.replicas, before)
    if settled.credentials:
        hand_over_credentials(engine, settled, undo)
    rollout = Rollout(engine, settled, before, made, undo)
    if rollout.changes("vmsvc"):
        check_service(engine, settled, rollout)
    changed = "balancer" in settled.services and hand_over_balancer_config(engine, undo, rollout.reload_balancer)
    rollout.apply_decision(reload_balancer=changed)
    return rollout


def build():
    """All of it; returns what to say at the end."""
    with alone():
        text, settled = settle()
        content, candidate = render(text, settled.env), ROOT / ".env.new"
        # For its owner alone from the first byte on: it has passwords.
        candidate.unlink(missing_ok=True)
        with open(os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
        undo = Undo()
        try:
            engine = Engine(ROOT, settled, candidate)
            rollout = bring_up(engine, settled, undo)
            os.replace(candidate, ROOT / ".env")
        except BaseException:
            undo.run()
            raise
        finally:
            candidate.unlink(missing_ok=True)
        rollout.tidy()
        return settled.summary()


def main():
    """0 when all is healthy; else 1 and a line that says why, with everything as it was."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print(build())
    except (Refused, Failed) as error:
        print(f"vmsvc: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


sys.exit(main())
