"""Nothing gets into an image of which nobody can say to the byte what it is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_image_is_built_from_nothing_without_a_hash():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes -r /tmp/requirements-service.hashes.txt" in text
    assert not re.search(r"pip install(?!.*--require-hashes)", text.replace("\\\n", " "))


def test_an_operator_may_name_every_base_image_by_its_digest():
    for name in ("Dockerfile", "docker/balancer/Dockerfile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        bases, stages = (re.findall(pattern, text, re.MULTILINE) for pattern in (r"^FROM (\S+)", r"^FROM \S+ AS (\S+)"))
        assert bases and set(bases) - set(stages) == {"${PYTHON_IMAGE}"}
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert re.findall(r"image: (postgres\S*)", compose) == []
