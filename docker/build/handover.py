"""Files that containers read from volumes: the cloud's credentials, and the balancer's configuration."""

import io
import tarfile

from engine import Failed

_SERVICE_USER = 10001


def hand_over_credentials(engine, settled, undo):
    """Put them where the service alone can read them, in a folder named after their content: replicas that have the
    former ones can restart as long as they are needed."""
    volume, folder = f"{engine.project}_cloud_{settled.cloud}", settled.env["CREDENTIALS"]
    if _shell(engine, volume, "vmsvc", f"[ -d {folder} ] && echo known || true") == "known":
        return
    undo.add("remove the credentials", lambda: _shell(engine, volume, "vmsvc", f"rm -rf {folder}"))
    _shell(
        engine, volume, "vmsvc", "tar -x --same-owner --same-permissions -f -", _archive(folder, settled.credentials)
    )


def forget_other_credentials(engine, settled):
    """Remove all but those in use."""
    _shell(
        engine,
        f"{engine.project}_cloud_{settled.cloud}",
        "vmsvc",
        f'for each in *; do [ "$each" = {settled.env["CREDENTIALS"]} ] || rm -rf "$each"; done',
    )


def _archive(folder, contents):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in [("", None), *contents.items()]:
            entry = tarfile.TarInfo(f"{folder}/{name}".rstrip("/"))
            entry.uid = entry.gid = _SERVICE_USER
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o700
                archive.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o600
                archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def hand_over_balancer_config(engine, undo, take_up):
    """Put haproxy.cfg into the balancer's volume; True when it is another one than before. Raises Failed when HAProxy
    does not accept it. `take_up` makes a balancer that runs take it up; here it is called on the way back alone."""
    volume = f"{engine.project}_balancer"
    config = (engine.folder / "docker" / "balancer" / "haproxy.cfg").read_bytes()
    said = _shell(
        engine,
        volume,
        "vmsvc-balancer",
        "cat >new.cfg && haproxy -c -q -f new.cfg >&2 && if cmp -s new.cfg haproxy.cfg; then rm new.cfg; "
        "else cp haproxy.cfg before.cfg && mv new.cfg haproxy.cfg && echo changed; fi",
        config,
    )
    if said != "changed":
        return False

    def put_back():
        _shell(engine, volume, "vmsvc-balancer", "mv before.cfg haproxy.cfg")
        take_up()

    undo.add("put the balancer's configuration back", put_back)
    return True


def _shell(engine, volume, image, command, given=b""):
    """What a shell in that volume says."""
    status, words = engine.try_docker(
        "run",
        "--rm",
        "--interactive",
        "--user",
        "0",
        "--entrypoint",
        "sh",
        "--workdir",
        "/volume",
        "--network",
        "none",
        "--volume",
        f"{volume}:/volume",
        image,
        "-c",
        command,
        given=given,
    )
    if status:
        raise Failed(f"a file could not be handed over: {words}")
    return words
