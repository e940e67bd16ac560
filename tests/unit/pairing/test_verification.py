from pytest_tradeperf.pairing.outcomes import End
from pytest_tradeperf.pairing.verification import problem_of_code


def said(*right: str, **absent: str) -> dict[str, object]:
    return {"right": list(right), "wrong": [], "absent": {f"pkg.{n}": f"src/pkg/{n}.py" for n in absent}}


def test_base_that_went_on_without_what_git_ignores_is_an_error_with_the_cure() -> None:
    modules = {"base": said("pkg", fast="", extra=""), "head": said("pkg", "pkg.fast", "pkg.extra")}
    problem = problem_of_code(modules, ["src"], lambda files: [f for f in files if "fast" in f])
    assert problem is not None
    assert problem[:2] == (End.ERROR, "base")
    assert "went on without pkg.fast, which git ignores" in problem[2]
    assert "set perf_prepare" in problem[2]
    assert problem_of_code(modules, ["src"], lambda _: []) is None, "new code, which the base did not have"


def test_version_file_and_what_the_present_code_lacks_too_are_no_difference() -> None:
    modules = {"base": said("pkg", _version="", fast=""), "head": said("pkg", "pkg._version")}
    assert problem_of_code(modules, ["src"], lambda files: files) is None
