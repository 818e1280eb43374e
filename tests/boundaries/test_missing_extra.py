"""An adapter without its framework says which install mends it; a broken install speaks for itself.

Absence and breakage are simulated by a finder in front of all others, in an interpreter of its own.
"""

import pytest

from tests.boundaries.support import ADAPTERS, frameworks, fresh, last_line, requirements

#: `{name}` cannot be found or fails on import, the way `{error}` says, whatever is really installed.
FINDER = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise {error}
sys.meta_path.insert(0, Finder())
"""

#: Frameworks are there in these versions, and nothing else of them: versions are what is asked for first.
OLD = """
import sys, types
for name, version in {versions!r}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__version__ = version
"""

NEEDED = [(adapter, name, *need) for adapter in ADAPTERS for name, need in requirements(adapter)["needs"].items()]
each_need = pytest.mark.parametrize(("adapter", "name", "human", "floor"), NEEDED)


def absent(name: str) -> str:
    return FINDER.format(name=name, error=f"ModuleNotFoundError('No module named {name}', name={name!r})")


@pytest.mark.one_of_each("adapter", "name")
@each_need
@pytest.mark.parametrize("path", ["scirs2_adapters", "scirs2_adapters.adapters"])
def test_a_missing_framework_names_its_extra(path: str, adapter: str, name: str, human: str, floor: str) -> None:
    done = fresh(f"{absent(name)}\nimport {path}.{adapter}", check=False)
    named = f"`scirs2_adapters.{adapter}` needs {human}, which is not installed. "
    assert last_line(done) == (
        f"scirs2_adapters.core.errors.MissingExtraError: {named}"
        f'Install it with `pip install "scirs2[{adapter}]"` (from a checkout: `pip install ".[{adapter}]"`).'
    )


@each_need
def test_a_missing_framework_is_an_import_error_that_names_it(adapter: str, name: str, human: str, floor: str) -> None:
    fresh(f"""{absent(name)}
try:
    import scirs2_adapters.{adapter}
except ImportError as error:
    assert error.name == {name!r}
    assert isinstance(error.__cause__, ModuleNotFoundError)
else:
    raise SystemExit("imported without {name}")""")


@pytest.mark.one_of_each("adapter", "name")
@each_need
@pytest.mark.parametrize(
    "error",
    [
        "ImportError('libbroken.so: cannot open')",
        "ModuleNotFoundError('No module named part', name='part')",
        "OSError('bad')",
    ],
    ids=["library", "missing part", "not an import error"],
)
def test_a_broken_framework_shows_its_own_error(error: str, adapter: str, name: str, human: str, floor: str) -> None:
    done = fresh(f"{FINDER.format(name=name, error=error)}\nimport scirs2_adapters.{adapter}", check=False)
    kind, words = error.split("(")[0], error.split("'")[1]
    assert last_line(done) == f"{kind}: {words}"


@each_need
def test_an_old_framework_says_what_was_found_and_needed(adapter: str, name: str, human: str, floor: str) -> None:
    versions = {**dict.fromkeys(requirements(adapter)["needs"], "999"), name: "0.0.1"}
    done = fresh(f"{OLD.format(versions=versions)}\nimport scirs2_adapters.{adapter}", check=False)
    said = last_line(done)
    assert f"MissingExtraError: `scirs2_adapters.{adapter}` needs {human} {floor} or newer. Found: 0.0.1." in said
    assert f'`pip install "scirs2[{adapter}]"`' in said
    assert "--upgrade" not in said  # it would put the index's scirs2, another project's, in the place of this one


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_without_any_framework_the_rest_still_works(adapter: str) -> None:
    blocks = "\n".join(absent(name) for name in frameworks(adapter))
    fresh(f"{blocks}\nimport scirs2_adapters as s2; assert s2.names(); import scirs2_adapters.core")
