"""What the documents name is there."""

import re
import subprocess
from pathlib import Path

import pytest

from vmsvc import __version__, cli

ROOT = Path(__file__).parents[2]
NAMES = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
#: What a document tells its reader to make.
MADE = {
    "vmsvc/store/migrations/NNNN_what.py",
    "deploy/kubernetes/mine/kustomization.yaml",
    "client.py",
    "receive.py",
} | {
    "guard.py",
    "watch.py",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_a_document_names_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = {
        path
        for path in re.findall(r"`([.\w-]+(?:/[\w.-]+)+|\w+\.(?:py|md|toml|txt|yml))`", text)
        if not path.startswith((".venv/", "/"))
    }
    assert {path for path in paths - MADE if not (ROOT / path).exists()} == set()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []


def test_the_map_names_every_module_in_the_row_of_its_package():
    """But for the simulated cloud: its own README has the map of it."""
    seen = set()
    for first, rest in re.findall(r"(?m)^\| (`[^|]*) \| (.*)$", (ROOT / "ARCHITECTURE.md").read_text("utf-8")):
        for package in re.findall(r"`([\w/]+)`", first):
            folder = ROOT / package if package.startswith("vmsvc/") else ROOT / "vmsvc" / package
            modules = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
            if package != "simulator":
                assert modules <= set(re.findall(r"`([\w.]+)`", rest)), package
            seen.add(package.rpartition("/")[2])
    assert {"scheduling", "acting", "store", "planner", "client"} <= seen


@pytest.mark.parametrize("name", NAMES)
def test_every_target_that_a_document_names_is_in_the_makefile(name):
    targets = re.findall(r"(?m)^([a-z_]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
    named = re.findall(r"(?m)(?:`|^    )make ([a-z_]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert set(named) <= set(targets)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_vmsvc_that_a_document_names_is_one(name):
    """Those of the demo have a parser of their own."""
    text = (ROOT / name).read_text(encoding="utf-8")
    jobs = "|".join(("serve", "check", "migrate", "adopt", "token", "openapi", "sim"))
    for command in re.findall(rf"(?:\bvmsvc|-- python -m vmsvc) ((?:{jobs})\b[^`#|\n]*)(?=[`#|\n])", text):
        if not re.match(r"(serve|check|migrate|adopt|token|openapi|sim)( new)?( --?[\w-]+( \w+)?)* *$", command):
            continue  # a sentence, no command
        cli.parser().parse_args(command.split())


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_can_read_every_block_of_commands(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for block in re.findall(r"(?ms)^ *```(?:sh|bash)\n(.*?)^ *```$", text):
        read = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
        assert (read.returncode, read.stderr) == (0, ""), block


@pytest.mark.parametrize("name", NAMES)
def test_every_program_of_the_tests_that_a_document_names_is_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for module in re.findall(r"python -m ((?:tests|docs)(?:\.\w+)*\w)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists() or path.name == "bench", module


def test_what_a_contributor_sets_up_is_what_make_makes():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in re.findall(r"(?m)^    make \.venv/(\S+)", text):
        assert f"$(VENV)/{path}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 6000


def test_the_changelog_has_the_form_of_keep_a_changelog_and_this_release():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased, *releases = re.findall(r"(?m)^## (.*)$", text)
    assert unreleased == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", release) for release in releases)
    assert releases[0].startswith(f"[{__version__}] ")
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"(?m)^### (.*)$", text)) <= kinds
