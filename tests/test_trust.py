"""Every promise of the page "Trust" names a test that there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "doc" / "user_guide" / "trust.rst").read_text(encoding="utf-8")
NAMED = re.findall(r"``(tests/[\w/]+\.py)(?:::(\w+))?``", PAGE)


def test_the_page_names_tests():
    assert len(NAMED) == PAGE.count("\n     - ``tests/") > 20


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_is_there(path, name):
    source = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {name or 'test_'}", source, re.MULTILINE)
