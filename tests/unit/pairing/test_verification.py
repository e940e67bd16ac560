from pytest_tradeperf.pairing.outcomes import End
from pytest_tradeperf.pairing.verification import problem_of_code


def modules(**absent: str) -> dict[str, dict[str, object]]:
    """Return what both sides say where the base looked for some modules in vain."""
    said = {"right": ["pkg"], "wrong": [], "absent": {}}
    return {"base": said | {"absent": {f"pkg.{name}": file for name, file in absent.items()}}, "head": said}


def test_base_that_went_on_without_what_git_ignores_is_an_error_with_the_cure() -> None:
    found = modules(fast="build/fast.so", extra="src/pkg/extra.py")
    problem = problem_of_code(found, ["src"], lambda files: [f for f in files if "fast" in f])
    assert problem is not None
    assert problem[:2] == (End.ERROR, "base")
    assert "went on without pkg.fast, which git ignores" in problem[2]
    assert "set perf_prepare" in problem[2]
    assert problem_of_code(found, ["src"], lambda _: []) is None, "new code, which the base did not have"


def test_file_that_tells_a_version_may_be_missing() -> None:
    assert problem_of_code(modules(_version="src/pkg/_version.py"), ["src"], lambda files: files) is None
