"""Whether both sides have the tests, and each ran its own code: what they say about themselves, judged."""

from collections.abc import Callable, Mapping, Sequence

from pytest_tradeperf.pairing.outcomes import End
from pytest_tradeperf.pairing.protocol import Message


def end_of_problem(kind: str, side: str) -> End:
    """Return how tests end that a side could not collect; ``kind`` is broken, absent or silent."""
    if side == "head" or kind == "silent":
        return End.ERROR
    return End.ABSENT if kind == "absent" else End.BROKEN


def why_absent(test: str, side: str, problems: Mapping[str, tuple[str, str]]) -> tuple[End, str]:
    """Return how a test ends that ``side`` did not collect, by its ``problems`` of files and folders."""
    file = test.partition("::")[0]
    kind, text = next(
        (problems[node] for node in problems if node == file or file.startswith(f"{node}/")),
        ("absent", "the test is not collected there"),
    )
    return end_of_problem(kind, side), text


def problem_of_code(
    modules: Mapping[str, Message],
    sources: Sequence[str],
    ignored: Callable[[Sequence[str]], Sequence[str]],
) -> tuple[End, str, str] | None:
    """Return (end, side, text) where the sides did not run the two codes to compare; None where they did.

    ``modules`` is what each side says it loaded; ``ignored`` returns which of some files git ignores.
    """
    wrong = modules["base"]["wrong"]
    if wrong:
        names = ", ".join(wrong[:3])
        text = f"loaded the present code of {names} instead of the accepted one: load it by name, not by path"
        return End.ERROR, "base", text
    if not any(said["right"] for said in modules.values()):
        names = ", ".join(sources)
        text = f"these tests load nothing from perf_source ({names}): set perf_source to the code they time"
        return End.UNTOUCHED, "head", text
    unbuilt = _unbuilt(modules, ignored)
    if unbuilt:
        names = ", ".join(unbuilt[:3])
        text = (
            f"went on without {names}, which git ignores and rootdir has: "
            "set perf_prepare to a command that makes it in the base folder"
        )
        return End.ERROR, "base", text
    return None


def _unbuilt(modules: Mapping[str, Message], ignored: Callable[[Sequence[str]], Sequence[str]]) -> list[str]:
    """Return modules that rootdir has and the base looked for in vain, because git does not keep them.

    None that only tell a version, as build tools write them.
    """
    absent = modules["base"]["absent"]
    found = {file: name for name, file in absent.items() if "version" not in name.rpartition(".")[2]}
    return [found[file] for file in ignored(sorted(found))] if found else []
