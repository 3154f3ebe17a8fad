"""What the simulated cloud costs: `python -m tests.bench.bench_simulator [ROUNDS]`. Prints figures; asserts nothing.

CPU seconds of its process: of a start, of a POST of a server, and of a list of 200 servers. To compare two versions,
say the folder of the other checkout in OTHER: their rounds take turns, so that a busy machine slows both.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests
import yaml

ROOT = Path(__file__).parents[2]
POSTS, LISTS, SERVERS = 100, 40, 200


class Simulator:
    """A simulated cloud of one checkout, in a process of its own."""

    def __init__(self, root: Path, folder: str):
        command = [sys.executable, "-m", "vmsvc.simulator", "--dir", folder, "--hosts", "100", "--boot-seconds", "0"]
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            command, cwd=root, stdout=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        self.started = self.cpu()
        clouds = yaml.safe_load(Path(line.rpartition(" at ")[2].strip()).read_text("utf-8"))["clouds"]
        auth = clouds["sim-demo"]["auth"]
        self.url = auth["auth_url"].removesuffix("/identity/v3")
        user = {"name": "demo", "domain": {"name": "Default"}, "password": auth["password"]}
        identity = {"methods": ["password"], "password": {"user": user}}
        scope = {"project": {"name": "demo", "domain": {"name": "Default"}}}
        self.session = requests.Session()
        self.session.trust_env = False
        body = {"auth": {"identity": identity, "scope": scope}}
        answer = self.session.post(f"{auth['auth_url']}/auth/tokens", json=body, timeout=10)
        self.session.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        self.session.headers["OpenStack-API-Version"] = "compute 2.93"

    def cpu(self) -> float:
        """CPU seconds of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def measure(self) -> dict[str, float]:
        """Milliseconds of CPU of a start, a POST and a list."""
        image = self.session.get(f"{self.url}/image/v2/images", timeout=10).json()["images"][0]["id"]
        network = self.session.get(f"{self.url}/network/v2.0/networks", timeout=10).json()["networks"][0]["id"]
        server = {"name": "n", "flavorRef": "m1.tiny", "imageRef": image, "networks": [{"uuid": network}]}
        server["metadata"], server["tags"] = {"a": "b", "c": "d"}, ["t"]
        before = self.cpu()
        for _ in range(POSTS):
            self.session.post(f"{self.url}/compute/v2.1/servers", json={"server": server}, timeout=10)
        posted = self.cpu() - before
        self.session.post(f"{self.url}/sim/servers", json={"count": SERVERS - POSTS}, timeout=60)
        time.sleep(0.5)
        before = self.cpu()
        for _ in range(LISTS):
            self.session.get(f"{self.url}/compute/v2.1/servers/detail", timeout=10)
        listed = self.cpu() - before
        return {"start": self.started * 1000, "POST": posted / POSTS * 1000, "list": listed / LISTS * 1000}

    def stop(self) -> None:
        """Send SIGTERM, and wait for the end of the process."""
        self.process.terminate()
        self.process.wait(timeout=20)


def one_round(root: Path) -> dict[str, float]:
    """The figures of one checkout, with a new cloud."""
    with tempfile.TemporaryDirectory() as folder:
        simulator = Simulator(root, folder)
        try:
            return simulator.measure()
        finally:
            simulator.stop()


def main() -> None:
    """Take turns, and print medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    roots = {"this": ROOT, **({"other": Path(os.environ["OTHER"])} if "OTHER" in os.environ else {})}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in roots}
    for number in range(rounds):
        for name in list(roots) if number % 2 else reversed(list(roots)):
            figures[name].append(one_round(roots[name]))
    print(f"{'ms of CPU':<10}" + "".join(f"{name:>10}" for name in roots))
    for what in ("start", "POST", "list"):
        medians = [statistics.median(each[what] for each in figures[name]) for name in roots]
        print(f"{what:<10}" + "".join(f"{value:>10.2f}" for value in medians))


if __name__ == "__main__":
    main()
