"""tests/ mirrors vgbench/: each module has a test file of its name, or is listed with the files that test it."""

from locations import REPOSITORY
from mirror import TESTED_IN

TESTS = REPOSITORY / "tests"
MODULES = [
    path.relative_to(REPOSITORY / "vgbench")
    for path in sorted((REPOSITORY / "vgbench").rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py")
]


def own_test(module):
    return TESTS / module.parent / f"test_{module.name}"


def test_every_module_has_tests():
    without = [str(one) for one in MODULES if not own_test(one).is_file() and str(one) not in TESTED_IN]
    assert not without, "write tests/<its path>/test_<its name>, or name the test of it in tests/mirror.py"


def test_the_list_is_true():
    for module, files in TESTED_IN.items():
        assert (REPOSITORY / "vgbench" / module).is_file(), f"{module} is gone; take it out of tests/mirror.py"
        for file in files.split():
            assert (TESTS / file).is_file(), f"tests/{file}, which tests/mirror.py names for {module}, is gone"


def test_who_has_a_test_of_its_own_is_not_listed():
    assert not [str(one) for one in MODULES if own_test(one).is_file() and str(one) in TESTED_IN]
