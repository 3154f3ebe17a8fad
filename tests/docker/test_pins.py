"""Nothing gets into an image of which nobody can say to the byte what it is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_image_is_built_from_nothing_without_a_hash():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name in ("/tmp/requirements-service.hashes.txt", "requirements-dev.hashes.txt"):
        assert f"--only-binary :all: --require-hashes -r {name}\n" in text.replace(" \\\n    &&", "\n")
    assert not re.search(r"pip install(?!.*--require-hashes)|RUN make", text.replace("\\\n", " "))


def test_an_operator_may_name_every_base_image_by_its_digest():
    for name in ("Dockerfile", "docker/balancer/Dockerfile"):
        stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert {base for base, _ in stages} - {stage for _, stage in stages} == {"${PYTHON_IMAGE}"}
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert re.findall(r"image: (postgres\S*)", compose) == []
    assert len(re.findall(r"\bbuild:", compose)) == compose.count('args: {PYTHON_IMAGE: "${PYTHON_IMAGE:-')
