"""An import report as text and as plain containers: what each module costs, what failed, what can wait."""

from collections import Counter
from typing import Final

from pytest_tradeperf.measures.imports import ImportReport, ModuleImport
from pytest_tradeperf.model import Json
from pytest_tradeperf.units import format_duration, format_percent, format_quantity

_NAME: Final = 44


def import_lines(report: ImportReport) -> list[str]:
    """Return the report as lines of at most 100 columns, the package first, then the costliest modules."""
    head = f"{'module':<{_NAME}} {'status':<10} {'time':>9} {'memory':>10} {'modules':>8}"
    ordered = sorted(report.submodules, key=lambda module: -module.cost_ns)
    lines = [head, "-" * len(head), *(_line(module) for module in (report.itself, *ordered))]
    bands = Counter(module.band.value for module in report.all)
    shares = ", ".join(f"{count} {band}" for band, count in bands.most_common())
    lines += [
        "",
        f"{len(report.all)} modules: {shares}; {format_percent(report.success_rate)} can be imported",
        f"third-party share of importing {report.package}: {format_percent(report.third_party_share)}",
    ]
    lines += [f"FAILED {module.name}: {module.error}" for module in report.failures]
    if report.lazy_candidates:
        lines.append("candidates for an import inside the function that needs it:")
        lines += [
            f"  {module} ({format_duration(ns)}), imported by {importer}"
            for module, importer, ns in report.lazy_candidates[:10]
        ]
    if report.skipped:
        lines.append(f"left out (importing runs a program): {', '.join(report.skipped)}")
    return lines


def import_json(report: ImportReport) -> Json:
    """Return the report as plain containers, sizes in bytes and times in nanoseconds."""
    return {
        "package": report.package,
        "success_rate": report.success_rate,
        "third_party_share": report.third_party_share,
        "outside": list(report.itself.outside()),
        "skipped": list(report.skipped),
        "lazy_candidates": [
            {"module": module, "importer": importer, "ns": ns}
            for module, importer, ns in report.lazy_candidates
        ],
        "modules": [
            {
                "name": module.name,
                "status": module.band.value,
                "error": module.error,
                "wall_ns": module.wall_ns,
                "cpu_ns": module.cpu_ns,
                "memory_bytes": module.memory_bytes,
                "modules": len(module.loaded),
            }
            for module in report.all
        ],
    }


def _line(module: ModuleImport) -> str:
    name = module.name if len(module.name) <= _NAME else f"...{module.name[-(_NAME - 3) :]}"
    memory = "" if module.memory_bytes is None else format_quantity(module.memory_bytes, "B")
    time = format_duration(module.cost_ns)
    return f"{name:<{_NAME}} {module.band.value:<10} {time:>9} {memory:>10} {len(module.loaded):>8}"
