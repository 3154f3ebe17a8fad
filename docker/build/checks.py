"""What would keep the new containers from working, found while the old ones still run."""

import re
import time

from engine import Failed


def check_ports(engine, ports, before):
    """Raises Failed when the engine cannot publish a port that is not ours already."""
    ours = {port for one in before for port in one.ports}
    wanted = [port for port in ports if port not in ours]
    if not wanted:
        return
    publish = [word for number, port in enumerate(wanted, 1) for word in ("--publish", f"127.0.0.1:{port}:{number}")]
    status, words = engine.try_docker("run", "--rm", *publish, "--network", "bridge", "--entrypoint", "true", "vmsvc")
    if status:
        found = re.search(r"127\.0\.0\.1:(\d+)[^\n]*: ([^:\n]+)", words)
        raise Failed(
            f"port {found[1]} cannot be had: {found[2].strip(' .')}. Stop what listens there, or choose "
            "another PORT (several replicas take the ports after it)"
            if found
            else words
        )


#: Parts of the report that are wrong until somebody mends them, and not for a moment.
_LASTING = {"access", "credentials"}
_LOOKS, _PAUSE = 3, 2.0


def check_service(engine, settled, rollout):
    """`python -m vmsvc check` in a container of the new kind. Raises Failed with what is wrong.

    The service that runs may delete its only VM between two looks of the report, and a cloud may fail once: such things
    have to be wrong at each of three looks.
    """
    for look in range(_LOOKS):
        wrong = _wrong(engine, settled, rollout)
        if not wrong:
            return
        if any(line.split()[1] in _LASTING for line in wrong) or look == _LOOKS - 1:
            raise Failed("this would not work, so nothing was changed:\n" + "\n".join(wrong))
        time.sleep(_PAUSE)


def _wrong(engine, settled, rollout):
    """The lines of the report that count. A database or a simulated cloud that does not run yet, or will be another
    one, is not asked. Raises Failed where there is no report."""
    status, words = engine.try_compose("run", "--rm", "--no-deps", "-T", "vmsvc", "check")
    if status == 0:
        return []
    lines = words.splitlines()
    wrong = [line for line in lines if line.startswith("WRONG")]
    if not wrong:
        told = [line for line in lines if line.startswith("vmsvc: ")]
        raise Failed("\n".join(line[len("vmsvc: ") :] for line in told) or words)
    asked = {"access"}
    if rollout.stays("database"):
        asked |= {"database"}
    if settled.cloud != "simulated" or rollout.stays("cloud"):
        asked |= {line.split()[1] for line in wrong} - {"database", "access"}
    return [line for line in wrong if line.split()[1] in asked]
