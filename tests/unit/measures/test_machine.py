import datetime as dt
import json
import os
import re
from pathlib import Path

import pytest

from pytest_tradeperf.measures import machine


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"sys/fs/cgroup/cpu.max": "garbage"}, None),
        ({"sys/fs/cgroup/cpu.max": "100000 0"}, None),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read_in_cpus(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert machine.cpu_quota(written(tmp_path, files)) == quota


def test_the_machine_class_names_model_cpus_and_quota(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Fast   CPU  9000\nmodel name\t: other\n",
            "sys/fs/cgroup/cpu.max": "150000 100000",
        },
    )
    assert machine.machine_class(root) == f"Fast CPU 9000, {machine.usable_cpus()} CPUs, quota 1.5"


def test_a_machine_without_cpuinfo_still_has_a_class(tmp_path: Path) -> None:
    assert re.fullmatch(r".+, \d+ CPUs", machine.machine_class(tmp_path))


def test_usable_cpus_are_at_least_one_and_at_most_all() -> None:
    assert 1 <= machine.usable_cpus() <= (os.cpu_count() or 1)


def test_the_environment_is_stamped_with_the_given_moment() -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    found = machine.environment(now=moment, dependencies={"numpy": "2"}, source_tree="t", commit="c")
    assert found.created == "2026-01-02T03:04:05+00:00"
    assert (found.dependencies, found.source_tree, found.commit) == ({"numpy": "2"}, "t", "c")


def test_the_key_of_this_environment_is_a_plain_file_name() -> None:
    assert re.fullmatch(r"[\w.-]+", machine.environment().key)


def test_dependencies_are_what_the_tests_loaded_and_the_tools_did_not() -> None:
    import hypothesis
    import numpy as np

    modules = {"numpy": np, "numpy.linalg": np.linalg, "hypothesis": hypothesis, "json": json}
    found = machine.loaded_dependencies(modules, ["hypothesis", "json"])
    assert list(found) == ["numpy"]


def test_a_distribution_that_is_gone_is_said_to_be() -> None:
    assert machine.installed_versions(["no-such-distribution"]) == {"no-such-distribution": "not installed"}
