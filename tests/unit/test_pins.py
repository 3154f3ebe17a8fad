"""What the image is built from is said to the byte, and is what the tests run with; the package allows it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
HASHED = {
    "requirements-service.hashes.txt": ["requirements-service.txt"],
    "requirements-dev.hashes.txt": ["requirements-service.txt", "requirements.txt", "requirements-dev.txt"],
}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def lines_of(name):
    """The lines of a file of requirements; one that goes on is one line."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith(("#", "-"))]


def spelt(name):
    """A package's name as all spellings of it have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions_of(name):
    """The pinned version of each package, but of those that only other systems need."""
    found = [Requirement(line.partition(" --hash")[0].partition("#")[0]) for line in lines_of(name)]
    return {spelt(one.name): str(one.specifier) for one in found if one.marker is None or one.marker.evaluate()}


@pytest.mark.parametrize("name", HASHED)
def test_every_package_of_an_image_has_its_hashes_and_the_release_of_the_tests(name):
    lines, hashed = lines_of(name), versions_of(name)
    constraints = versions_of("constraints.txt")
    assert all(HASH.search(line) for line in lines)
    assert {name: version for name, version in hashed.items() if constraints.get(name) != version} == {}
    for source in HASHED[name]:
        assert versions_of(source).items() <= hashed.items()


@pytest.mark.parametrize("name", HASHED)
def test_a_package_with_compiled_parts_has_the_hashes_of_all_its_platforms(name):
    many = {spelt(line.partition("==")[0]): len(HASH.findall(line)) for line in lines_of(name)}
    assert min(many[name] for name in ("psycopg2-binary", "tornado", "orjson")) > 5


@pytest.mark.parametrize("name", ["requirements-dev.txt", "requirements-package.txt", "requirements-docs.txt"])
def test_what_development_needs_has_the_release_of_the_constraints(name):
    constraints = versions_of("constraints.txt")
    assert {name: version for name, version in versions_of(name).items() if constraints.get(name) != version} == {}


def test_the_package_allows_the_releases_that_are_tested_and_needs_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras.keys() == {"service", "embedded", "openstack", "tracing"}
    assert len(project["dependencies"]) == 2, "the client stays small"
    for wanted, name in (
        (project["dependencies"] + extras["service"], "requirements-service.txt"),
        (extras["embedded"], "requirements.txt"),
    ):
        allowed = {spelt(one.name): one.specifier for one in map(Requirement, wanted)}
        pinned = {name: version.removeprefix("==") for name, version in versions_of(name).items()}
        assert allowed.keys() == pinned.keys()
        assert {name for name, version in pinned.items() if not allowed[name].contains(version)} == set()
    (program,) = map(Requirement, extras["openstack"])
    assert program.specifier.contains(versions_of("requirements-dev.txt")[program.name].removeprefix("=="))
