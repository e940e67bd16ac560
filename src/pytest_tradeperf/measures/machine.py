"""What machine and software this is, as far as it decides which numbers may be compared."""

import datetime as dt
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from pytest_tradeperf import __version__
from pytest_tradeperf.model import Environment


def environment(
    *,
    dependencies: Mapping[str, str] | None = None,
    source_tree: str | None = None,
    commit: str | None = None,
    now: dt.datetime | None = None,
) -> Environment:
    """Return a description of this interpreter and machine."""
    moment = now or dt.datetime.now(dt.UTC)
    return Environment(
        platform=sys.platform,
        arch=platform.machine().lower() or "unknown",
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        machine=machine_class(),
        pytest_tradeperf=__version__,
        dependencies=dict(dependencies or {}),
        source_tree=source_tree,
        commit=commit,
        created=moment.isoformat(timespec="seconds"),
    )


def machine_class(root: Path = Path("/")) -> str:
    """Return CPU model, usable CPUs and container quota in one line; ``root`` is where /proc is found."""
    quota = cpu_quota(root)
    limited = f", quota {quota:g}" if quota is not None else ""
    return f"{_cpu_model(root)}, {usable_cpus()} CPUs{limited}"


def usable_cpus() -> int:
    """Return how many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the container's CPU quota in CPUs, or None when there is none (cgroup v2, else v1)."""
    groups = root / "sys/fs/cgroup"
    try:
        if (groups / "cpu.max").exists():
            limit, period = (groups / "cpu.max").read_text().split()
        else:
            limit = (groups / "cpu/cpu.cfs_quota_us").read_text()
            period = (groups / "cpu/cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if limit != "max" and int(limit) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _cpu_model(root: Path) -> str:
    try:
        text = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^(?:model name|Hardware|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    return (
        " ".join(found[1].split()) if found else platform.processor() or platform.machine() or "unknown CPU"
    )


def loaded_dependencies(modules: Mapping[str, object], tooling: Iterable[str]) -> dict[str, str]:
    """Return the versions of the distributions behind ``modules`` that are not behind ``tooling``.

    ``modules`` is ``sys.modules``; ``tooling`` the names that were loaded before the first test file.
    """
    before = {name.partition(".")[0] for name in tooling}
    names = {name.partition(".")[0] for name in modules} - before - sys.stdlib_module_names
    installed = {n for n in names if "-packages" in (getattr(modules.get(n), "__file__", None) or "")}
    if not installed:
        return {}  # reading the metadata of everything installed takes a third of a second
    homes = metadata.packages_distributions()
    tools = {home for name in before for home in homes.get(name, ())}
    used = {home for name in installed for home in homes.get(name, ())[:1]}
    return installed_versions(sorted(used - tools, key=str.lower))


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each distribution; one that is gone has ``"not installed"``."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
