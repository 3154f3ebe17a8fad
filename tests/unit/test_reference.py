"""What the documents take from the code is as the code has it."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if "_build" not in path.parts)


@pytest.fixture(name="generate", scope="module")
def fixture_generate():
    """The script, which is in no package."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_the_code_has_it(generate, page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert generate.generated(text) == text, "run `make reference`"


def test_every_part_that_is_made_from_the_code_is_on_a_page(generate):
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    assert {name for name in generate.PARTS if text.count(f"<!-- generated: {name} -->\n") == 1} == set(generate.PARTS)


def test_a_part_that_is_out_of_date_is_written_anew(generate):
    old = "before\n\n<!-- generated: close_codes -->\n\n| an old table |\n\n<!-- end -->\n\nafter"
    new = generate.generated(old)
    assert "4008" in new and "an old table" not in new and new.startswith("before\n") and new.endswith("\nafter")
