"""Docker and compose, for one installation. Compose makes containers; which of them run is decided in `rollout`."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

#: What only `.env` may say to compose, so that a later `docker compose up` means the same.
_OURS = re.compile(
    r"VMSVC_|OS_|COMPOSE_PRO|[A-Z]+_IMAGE$|POSTGRES_PASSWORD|REPLICA|PORT$|CLOUD$|CREDENTIALS$|"
    r"REQUESTS_CA_BUNDLE"
)
#: What compose builds: service to image.
IMAGES = {"vmsvc": "vmsvc", "cloud": "vmsvc-cloud", "balancer": "vmsvc-balancer"}
_LABEL = "com.docker.compose."


class Failed(Exception):
    """Something did not work; the message says what, in the engine's or the service's words."""


@dataclass(frozen=True)
class Container:
    """What of `docker inspect` matters here. Two are `made` alike when compose would make the same of them."""

    id: str
    name: str
    service: str
    made: tuple
    volumes: frozenset
    ports: frozenset
    status: str
    health: str
    restarts: int
    address: str

    @property
    def runs(self):
        """Is its process there?"""
        return self.status == "running"


def networks_of(config, service):
    """The networks of a service, read from what `docker-compose config` prints."""
    (services,) = re.findall(r"^services:\n((?:  .*\n)+)", config, re.MULTILINE)
    (section,) = re.findall(rf"^  {service}:\n((?:    .*\n)+)", services, re.MULTILINE)
    (networks,) = re.findall(r"^    networks:\n((?:      .*\n)+)", section, re.MULTILINE)
    return re.findall(r"^      ([\w.-]+):", networks, re.MULTILINE)


class Engine:
    """`project` is compose's name for the installation. Each method raises Failed."""

    def __init__(self, folder, settled, env_file):
        self.folder, self.project = folder, settled.project
        self._environ = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
        # An attestation has the time in it: with one, an image would be another one at each build.
        self._environ["BUILDX_NO_DEFAULT_ATTESTATIONS"] = "1"
        if self._run(["docker", "info"]).returncode:
            raise Failed("no Docker engine answers; is it running, and may you use it?")
        if self._run(["docker", "compose", "version"]).returncode == 0:
            compose = ["docker", "compose"]
        elif shutil.which("docker-compose"):
            compose = ["docker-compose"]
        else:
            raise Failed("neither 'docker compose' nor 'docker-compose' is there; install one of them")
        self._compose = [*compose, "--env-file", str(env_file)]
        # For compose of the older kind, which reads them before the file.
        self._environ.update({name: settled.env[name] for name in ("COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES")})
        self._volumes = self._all_volumes()

    def _run(self, command, given=None, show=False):
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self._environ,
            input=given,
            check=False,
            stdin=subprocess.DEVNULL if given is None else None,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
        )

    def try_docker(self, *arguments, given=None):
        """(exit status, what it said, errors last)."""
        done = self._run(["docker", *arguments], given)
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace").strip()

    def docker(self, *arguments, given=None):
        """What the client says."""
        done = self._run(["docker", *arguments], given)
        if done.returncode:
            raise Failed(done.stderr.decode(errors="replace").strip() or f"docker {arguments[0]} failed")
        return done.stdout.decode(errors="replace").strip()

    def try_compose(self, *arguments):
        """(exit status, what it said, errors last)."""
        done = self._run([*self._compose, *arguments])
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace").strip()

    def compose(self, *arguments, show=False):
        """Have compose do it; `show` what it says."""
        done = self._run([*self._compose, *arguments], show=show)
        if done.returncode:
            words = "" if show else ": " + done.stderr.decode(errors="replace").strip()
            raise Failed(f"compose {arguments[0]} failed{words}")

    def build(self, services):
        """The images of these services; what is said goes to the terminal."""
        # Of a build that fails, the older builder leaves a container behind.
        older = ["--force-rm"] if self._compose[0] == "docker-compose" else []
        self.compose("build", *older, *services, show=True)

    # ---------------------------------------------------------------- containers

    def containers(self):
        """All of the installation, those that do not run too."""
        ids = self.docker(
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            "--filter",
            f"label={_LABEL}project={self.project}",
            "--filter",
            f"label={_LABEL}oneoff=False",
        ).split()
        return [self._container(one) for one in json.loads(self.docker("inspect", *ids))] if ids else []

    def look(self, containers):
        """The same containers, as they are now."""
        now = {one.id: one for one in self.containers()}
        return [now[one.id] for one in containers if one.id in now]

    def _container(self, found):
        labels, state = found["Config"]["Labels"], found["State"]
        volumes = frozenset((mount["Destination"], mount.get("Name", mount["Source"])) for mount in found["Mounts"])
        taken = (found["NetworkSettings"]["Ports"] or {}).values() if state["Running"] else ()
        front = found["NetworkSettings"]["Networks"].get(f"{self.project}_front") or {}
        return Container(
            id=found["Id"],
            name=found["Name"].lstrip("/"),
            service=labels[_LABEL + "service"],
            volumes=volumes,
            made=(labels.get(_LABEL + "config-hash"), found["Image"], volumes),
            ports=frozenset(int(one["HostPort"]) for each in taken for one in each or () if one["HostPort"]),
            status=state["Status"],
            health=(state.get("Health") or {}).get("Status", ""),
            restarts=found["RestartCount"],
            address=front.get("IPAddress", ""),
        )

    def create(self, services, replicas, before):
        """Have compose make a whole new set of containers beside those that are there `before`; none is started."""
        scale = {
            name: sum(one.service == name for one in before) + (replicas if name == "vmsvc" else 1) for name in services
        }
        self.compose(
            "up",
            "--no-start",
            "--no-deps",
            "--no-recreate",
            *(word for name, number in scale.items() for word in ("--scale", f"{name}={number}")),
            *services,
        )
        old = {one.id for one in before}
        made = [one for one in self.containers() if one.id not in old]
        if self._compose[0] == "docker-compose":
            self._connect(made)
        return made

    def _connect(self, containers):
        """The older compose connects a container to one network when it makes it, and to the others when it starts it;
        but here the engine starts it."""
        config = self._run([*self._compose, "config"]).stdout.decode()
        for one in containers:
            there = json.loads(self.docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", one.id))
            for name in networks_of(config, one.service):
                network = f"{self.project}_{name}"
                if network not in there:
                    self.docker("network", "connect", "--alias", one.service, network, one.id)

    def start(self, containers):
        """Start those that do not run."""
        if containers:
            self.docker("start", *(one.id for one in containers))

    def stop(self, containers):
        """Stop them in an orderly way, all at once."""
        if containers:
            self.docker("stop", *(one.id for one in containers))

    def remove(self, containers):
        """Remove them, whatever they do; volumes with names stay."""
        if containers:
            self.docker("rm", "--force", "--volumes", *(one.id for one in containers))

    def remove_all_but(self, before):
        """Containers, networks and volumes that were made since."""
        old = {one.id for one in before}
        self.remove([one for one in self.containers() if one.id not in old])
        if not before:
            self.try_compose("down", "--remove-orphans")
        made = self._all_volumes() - self._volumes
        if made:
            self.docker("volume", "rm", *made)

    def _all_volumes(self):
        return set(self.docker("volume", "ls", "--quiet", "--filter", f"name=^{self.project}_").split())

    def log_of(self, container):
        """Its last lines."""
        return self.try_docker("logs", "--tail", "20", container.id)[1]

    # ---------------------------------------------------------------- images

    def images(self):
        """The images that bear our names now: name to id."""
        found = {name: self.try_docker("image", "inspect", "--format", "{{.Id}}", name) for name in IMAGES.values()}
        return {name: words for name, (status, words) in found.items() if status == 0}

    def name_images(self, images):
        """Give the names to these again."""
        for name, image in images.items():
            self.docker("tag", image, name)
