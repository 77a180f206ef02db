"""Every listed mutant can be planted, and names tests that are there. `make mutants` shows that these tests fail."""

import re

import pytest
from mutants import Mutant, check, read, rooms

LISTED = [mutant for room in rooms() for mutant in read(room)]


@pytest.mark.parametrize("mutant", LISTED, ids=[f"{mutant.room}-{index}" for index, mutant in enumerate(LISTED)])
def test_a_listed_mutant_can_be_planted(mutant):
    check(mutant)


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\ny = 1 + x\n")
    (tmp_path / "test_a.py").write_text(
        "def test_a():\n    pass\n\n\nclass TestB:\n    def test_b(self):\n        pass\n"
    )
    return tmp_path


@pytest.mark.parametrize("test", ["test_a.py", "test_a.py::test_a[1-2]", "test_a.py::TestB::test_b"])
def test_a_mutant_is_planted_once(tree, test):
    mutant = Mutant("room", "a.py", "x = 1", "x = 2", (test,))
    check(mutant, tree)
    assert mutant.text(tree) == "x = 2\ny = 1 + x\n"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"old": "1"}, "2 times, not once: '1'"),
        ({"old": "z"}, "0 times, not once: 'z'"),
        ({"new": "x = 1"}, "the same"),
        ({"new": "x = ("}, "never closed"),
        ({"file": "b.py"}, "b.py does not exist"),
        ({"tests": ("test_b.py",)}, "test_b.py does not exist"),
        ({"tests": ("test_a.py::test_b",)}, "test_a.py has no test_b"),
        ({"tests": ("test_a.py::TestB::test_a",)}, "test_a.py has no test_a"),
    ],
)
def test_a_mutant_that_cannot_be_planted_is_refused(tree, change, message):
    mutant = Mutant("room", "a.py", "x = 1", "x = 2", ("test_a.py",))._replace(**change)
    with pytest.raises((ValueError, SyntaxError), match=re.escape(message)):
        check(mutant, tree)
