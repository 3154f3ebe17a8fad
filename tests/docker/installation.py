"""`make build` and what it started, as an operator has them in hand."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tornado.httpclient import HTTPClientError

from tests.conftest import Database
from tests.system.client import Client
from tests.system.simulated import Sim
from vmsvc.simulator.process import RunningSimulator


def tree_without(root: Path) -> Iterator[str]:
    """The names of the files under version control, or about to be, that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return (name for name in listed.split("\0") if name and (root / name).is_file())


def docker(*arguments: str) -> str:
    """What the docker client says; fails with its own words."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Installation:
    """One tree with its containers, under a project name of its own."""

    def __init__(self, tree: Path, project: str, port: int):
        self.tree, self.project, self.port = tree, project, port
        own = {name: value for name, value in os.environ.items() if not name.startswith(("VMSVC_", "OS_", "COMPOSE_"))}
        self._environ = {**own, "COMPOSE_PROJECT_NAME": project}

    def make(self, target: str, /, **environ: str) -> subprocess.CompletedProcess:
        """Run a target to its end."""
        return subprocess.run(
            ["make", target],
            cwd=self.tree,
            text=True,
            capture_output=True,
            env={**self._environ, **environ},
            timeout=400,
            check=False,
        )

    def killed_build(self, words: str, **environ: str) -> None:
        """`make build`, killed with all its processes as soon as it says `words`."""
        with subprocess.Popen(
            ["make", "build"],
            cwd=self.tree,
            text=True,
            env={**self._environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as building:
            said = next((line for line in building.stdout if words in line), None)
            os.killpg(building.pid, signal.SIGKILL)
        assert said

    def compose(self, *arguments: str) -> str:
        """What an operator does beside `make`; what it says."""
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        return subprocess.run(
            [*(["docker", "compose"] if plugin else ["docker-compose"]), *arguments],
            cwd=self.tree,
            env=self._environ,
            text=True,
            capture_output=True,
            timeout=120,
            check=True,
        ).stdout

    def condition(self) -> dict:
        """All that a build which fails has to leave as it was."""
        found = {
            one["Id"]: (one["State"]["StartedAt"], one["State"]["Status"])
            for one in json.loads(
                docker(
                    "inspect",
                    *docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}").split(),
                )
            )
        }
        images = {
            name: docker("image", "inspect", "-f", "{{.Id}}", name)
            for name in docker("images", "--format", "{{.Repository}}", "vmsvc*").split()
        }
        return {
            "containers": found,
            "images": images,
            "env": (self.tree / ".env").read_bytes(),
            "volumes": docker("volume", "ls", "-q", "--filter", f"name={self.project}_"),
            "new .env": (self.tree / ".env.new").exists(),
        }

    def build(self, **environ: str) -> str:
        """`make build`; what it said."""
        done = self.make("build", **environ)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, those that ended too."""
        return docker(
            "ps",
            "-aq",
            "--filter",
            f"label=com.docker.compose.project={self.project}",
            "--filter",
            f"label=com.docker.compose.service={service}",
        ).split()

    def container(self, service: str) -> str:
        """The only one."""
        (only,) = self.containers(service)
        return only

    def inspect(self, service: str) -> list[dict]:
        """All that the engine knows of a service's containers."""
        return json.loads(docker("inspect", *self.containers(service)))

    def address(self, service: str, network: str) -> str:
        """Where the machine itself finds a container, though its port is not published."""
        (container,) = self.inspect(service)
        return container["NetworkSettings"]["Networks"][f"{self.project}_{network}"]["IPAddress"]

    @property
    def database(self) -> Database:
        """For looking at it from outside."""
        (password,) = [
            line.partition("=")[2]
            for line in (self.tree / ".env").read_text(encoding="utf-8").splitlines()
            if line.startswith("POSTGRES_PASSWORD=")
        ]
        return Database(f"postgresql://vmsvc:{password}@{self.address('database', 'back')}/vmsvc")

    @property
    def sim(self) -> Sim:
        """The simulated cloud, to look into it."""
        clouds = self.tree.parent / f"{self.project}-clouds.yaml"  # a file in the tree would be one in the image
        clouds.write_text(docker("exec", self.container("cloud"), "cat", "/data/clouds.yaml"), encoding="utf-8")
        return Sim(RunningSimulator(f"http://{self.address('cloud', 'front')}:8774", clouds, 0))

    async def ready(self) -> Client:
        """A client, when all is ready."""
        client = Client(self.port)
        for _ in range(600):
            try:
                if (await client.call("GET", "/readyz")).status == 200:
                    return client
            except (OSError, HTTPClientError):  # nobody listens, or did and was killed
                pass
            await asyncio.sleep(0.1)
        client.close()
        raise AssertionError(docker("logs", "--tail", "40", self.containers("vmsvc")[0]))

    def remove(self) -> None:
        """Containers, networks and data."""
        self.make("down")
        kept = docker("volume", "ls", "-q", "--filter", f"name={self.project}_").split()
        if kept:
            docker("volume", "rm", *kept)
