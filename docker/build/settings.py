"""What a build is told and what `.env` remembers, and what follows from both. `decide` is pure but for its `read`.

What the shell says (REPLICAS, PORT, VMSVC_…, OS_…) is kept in `.env`, so that a later plain `make build` goes by it. A
name that is set and empty is forgotten. The variables of a cloud belong together: another cloud begins with none.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

SIMULATED = "simulated"
#: Defaults where there are several flavors and nobody wants to wait. A real cloud has its own.
SIMULATED_DEFAULTS = {"VMSVC_FLAVOR": "m1.tiny", "VMSVC_GRACE_SECONDS": "10"}
#: As many as the balancer has a place for (`server-template` in haproxy.cfg).
MOST_REPLICAS = 16
#: Names of former releases.
_OBSOLETE = ("REPLICA_PORT", "BALANCER_PORT")
#: Files of the machine, which the containers know under another name.
_FILES = ("OS_CLIENT_CONFIG_FILE", "OS_CLIENT_SECURE_FILE", "CACERT_FILE")


class Refused(Exception):
    """What was asked for cannot be; nothing was changed."""


@dataclass
class Settled:
    """`env` is what `.env` is to say; `credentials` are files (name to content) for the service, `cloud` its key in
    names of volumes, and `ports` those of the machine's loopback that will be in use."""

    env: dict
    cloud: str
    replicas: int
    port: int
    credentials: dict = field(default_factory=dict)

    @property
    def project(self):
        """Compose's name for all of it."""
        return self.env["COMPOSE_PROJECT_NAME"]

    @property
    def services(self):
        """Those that run, in the order in which they start."""
        return [
            "database",
            *(["cloud"] if self.cloud == SIMULATED else []),
            "vmsvc",
            *(["balancer"] if self.replicas > 1 else []),
        ]

    @property
    def replica_ports(self):
        """One for each replica. A single one has the port itself; several leave it to the balancer."""
        return [self.port] if self.replicas == 1 else [self.port + 1 + number for number in range(self.replicas)]

    @property
    def ports(self):
        """All ports."""
        return sorted({self.port, *self.replica_ports})

    def summary(self):
        """What to say when all is well."""
        text = f"vmsvc works on the cloud '{self.cloud}': http://127.0.0.1:{self.port}/"
        if self.replicas > 1:
            first, *_, last = self.replica_ports
            text += f"\nEach replica has a port of its own, for /metrics: {first} to {last}."
        return text


# ---------------------------------------------------------------- .env


def parse(text):
    """Name to value of the lines that have both; the last one counts."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and re.fullmatch(r"\w+", name):
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            found[name] = value
    return found


def render(text, env):
    """`text` with the values of `env`: lines that say the same already and comments stay, other names go."""
    kept, lines, left = parse(text), [], dict(env)
    for line in text.splitlines():
        name = line.strip().partition("=")[0]
        if name not in kept:
            lines.append(line)
        elif name in left:
            value = left.pop(name)
            lines.append(line if kept[name] == value and _is_only(name, text) else f"{name}={_quoted(name, value)}")
    lines += [f"{name}={_quoted(name, value)}" for name, value in left.items()]
    return "".join(line + "\n" for line in lines)


def _is_only(name, text):
    return len(re.findall(rf"^\s*{name}=", text, re.MULTILINE)) == 1


def _quoted(name, value):
    if re.fullmatch(r"[\w@%+:,./=-]*", value):
        return value
    # What both kinds of compose read alike between single quotes.
    if re.search(r"['\n\r]|\$\{|\\\\|\\$", value):
        raise Refused(
            f"{name} has a quote, a line's end, '${{' or a double backslash, which .env cannot keep; for a "
            "cloud use clouds.yaml"
        )
    return f"'{value}'"


# ---------------------------------------------------------------- decisions


def decide(told, kept, compose, read):
    """What is to be. `told` is the environment, `kept` what `.env` has, `compose` the text of docker-compose.yml (it
    says which names the containers get), `read(variables)` gives the files of the credentials. Raises Refused."""
    # Names that are numbers of something else in other people's shells are no settings of ours.
    passed_on = set(re.findall(r"\b(?:VMSVC_[A-Z_]+|OS_[A-Z_]+|[A-Z]+_IMAGE)\b", compose)) | set(_FILES)
    told = {
        name: value
        for name, value in told.items()
        if name in passed_on or name in ("REPLICAS", "PORT", "CLOUD", "COMPOSE_PROJECT_NAME")
    }
    cloud, variables = _cloud(told, kept)
    env = {
        name: value
        for name, value in kept.items()
        if not name.startswith("OS_") and name not in (*_OBSOLETE, *_FILES, "CREDENTIALS", "REQUESTS_CA_BUNDLE")
    }
    if cloud != SIMULATED and kept.get("CLOUD", SIMULATED) == SIMULATED:
        env = {name: value for name, value in env.items() if SIMULATED_DEFAULTS.get(name) != value}
    env.update((name, value) for name, value in told.items() if name.startswith("VMSVC_") or name.endswith("_IMAGE"))
    env.update(variables, CLOUD=cloud)
    env = {name: value for name, value in env.items() if value or not told.get(name) == ""}
    credentials = {}
    if cloud == SIMULATED:
        env = {**SIMULATED_DEFAULTS, **env, "OS_CLOUD": "sim-admin"}
    else:
        credentials, found = read(variables)
        env.update(found)
    settled = Settled(
        env,
        cloud,
        _whole("REPLICAS", told, kept, 1, MOST_REPLICAS),
        _whole("PORT", told, kept, 8888, 65535),
        credentials,
    )
    _fill_in(settled, told, kept)
    return settled


def _cloud(told, kept):
    """(key, the OS_* variables) of the cloud: the shell's, else that of the last build, else the simulated one."""
    variables = {name: value for name, value in told.items() if name.startswith("OS_")}
    if variables.get("OS_CACERT"):
        variables["CACERT_FILE"] = variables.pop("OS_CACERT")
    remembered = {
        name: value
        for name, value in kept.items()
        if (name.startswith("OS_") and name != "OS_CACERT") or name == "CACERT_FILE"
    }
    before = kept.get("CLOUD", SIMULATED)
    if told.get("CLOUD") == SIMULATED:
        return SIMULATED, {}
    named = _key(variables)
    if named and named != before:
        return named, variables
    if before == SIMULATED:
        return SIMULATED, {}
    merged = {name: value for name, value in {**remembered, **variables}.items() if value}
    if not _key(merged):
        raise Refused(
            f"the last 'make build' was for the cloud '{before}', and neither this shell nor .env says how "
            "to reach it. Set OS_CLOUD (or OS_*) again, or say: make build CLOUD=simulated"
        )
    return before if not named else named, merged


def _key(variables):
    """A name for the cloud that these variables lead to, fit for a volume's; empty when they lead to none."""
    name = variables.get("OS_CLOUD", "")
    if not name and variables.get("OS_AUTH_URL"):
        whose = (variables.get(part) for part in ("OS_PROJECT_NAME", "OS_PROJECT_ID", "OS_APPLICATION_CREDENTIAL_ID"))
        name = f"{variables['OS_AUTH_URL']} {next(filter(None, whose), '')}"
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _whole(name, told, kept, default, most):
    """A whole number from 1 to `most`."""
    text = told.get(name) or kept.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= most:
        raise Refused(f"{name}={text} is no whole number from 1 to {most}")
    return int(text)


def _fill_in(settled, told, kept):
    """The rest of what docker-compose.yml reads."""
    env = settled.env
    if settled.ports[-1] > 65535:
        raise Refused(f"PORT={settled.port} leaves no ports for {settled.replicas} replicas after it")
    if settled.replicas > 1 and env.get("VMSVC_TLS_CERT"):
        raise Refused("VMSVC_TLS_CERT with several replicas: the balancer speaks HTTP to them; leave TLS to a proxy")
    env["COMPOSE_PROJECT_NAME"] = told.get("COMPOSE_PROJECT_NAME") or kept.get("COMPOSE_PROJECT_NAME") or "vmsvc"
    env["POSTGRES_PASSWORD"] = kept.get("POSTGRES_PASSWORD") or secrets.token_hex(16)
    env["REPLICAS"], env["PORT"] = str(settled.replicas), str(settled.port)
    ports = settled.replica_ports
    env["REPLICA_PORTS"] = f"{ports[0]}-{ports[-1]}" if len(ports) > 1 else str(ports[0])
    env["TRUSTED_BALANCER"] = "balancer," if settled.replicas > 1 else ""  # before the operator's own, if any
    env["COMPOSE_PROFILES"] = ",".join(
        [*(["simulated"] if settled.cloud == SIMULATED else []), *(["replicas"] if settled.replicas > 1 else [])]
    )
    if settled.credentials:
        digest = hashlib.sha256(repr(sorted(settled.credentials.items())).encode()).hexdigest()[:16]
        env["CREDENTIALS"] = digest
        if "ca.pem" in settled.credentials:
            env["OS_CACERT"] = env["REQUESTS_CA_BUNDLE"] = f"/etc/openstack/{digest}/ca.pem"


# ---------------------------------------------------------------- the files of the credentials


def read_credentials(variables):
    """(content by name, variables that say where it was found). Looks where every client does. Raises Refused."""
    contents, found = {}, {}
    if variables.get("OS_CLOUD") or variables.get("OS_CLIENT_CONFIG_FILE"):
        file = _clouds_yaml(variables)
        found["OS_CLIENT_CONFIG_FILE"] = str(file)
        contents["clouds.yaml"] = _content("OS_CLIENT_CONFIG_FILE", file)
        secure = Path(variables.get("OS_CLIENT_SECURE_FILE") or file.parent / "secure.yaml").resolve()
        if secure.exists() or variables.get("OS_CLIENT_SECURE_FILE"):
            contents["secure.yaml"] = _content("OS_CLIENT_SECURE_FILE", secure)
    if variables.get("CACERT_FILE"):
        file = Path(variables["CACERT_FILE"]).resolve()
        found["CACERT_FILE"] = str(file)
        contents["ca.pem"] = _content("OS_CACERT", file)
    if variables.get("OS_CLIENT_SECURE_FILE"):
        found["OS_CLIENT_SECURE_FILE"] = str(Path(variables["OS_CLIENT_SECURE_FILE"]).resolve())
    return contents, found


def _clouds_yaml(variables):
    if variables.get("OS_CLIENT_CONFIG_FILE"):
        return Path(variables["OS_CLIENT_CONFIG_FILE"]).resolve()
    for folder in (Path.cwd(), Path.home() / ".config/openstack", Path("/etc/openstack")):
        file = folder / "clouds.yaml"
        if file.is_file():
            return file.resolve()
    raise Refused(f"OS_CLOUD={variables['OS_CLOUD']}, but there is no clouds.yaml; name it with OS_CLIENT_CONFIG_FILE")


def _content(name, file):
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refused(f"{name}: {file} cannot be read ({error.strerror})") from None
