from pathlib import Path

from pytest_tradeperf.measures.witness import NoiseWitness, describe


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def machine(root: Path, *, steal: int, pressure_us: int, throttled_us: int, hot: int) -> None:
    write(root, "proc/stat", f"cpu  {900 - steal} 0 50 0 0 0 50 {steal} 0 0\ncpu0 1 2 3\n")
    write(
        root, "proc/pressure/cpu", f"some avg10=0.0 avg60=0.0 avg300=0.0 total={pressure_us}\nfull total=9\n"
    )
    write(root, "proc/self/cgroup", "0::/box\n")
    write(
        root, "sys/fs/cgroup/box/cpu.stat", f"usage_usec 5\nnr_throttled 3\nthrottled_usec {throttled_us}\n"
    )
    write(root, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    for cpu, khz in ((0, 1_200_000), (1, 3_000_000)):
        write(root, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{khz}\n")
        write(root, f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count", f"{hot}\n")


def test_differences_between_both_ends_are_what_was_seen(tmp_path: Path) -> None:
    ticks = iter([0, 1_000_000_000])
    machine(tmp_path, steal=10, pressure_us=1000, throttled_us=50, hot=1)
    with NoiseWitness(root=tmp_path, clock=lambda: next(ticks)) as witness:
        write(tmp_path, "proc/stat", "cpu  1000 0 50 0 0 0 50 110 0 0\n")
        write(tmp_path, "proc/pressure/cpu", "some avg10=0 total=251000\n")
        write(tmp_path, "sys/fs/cgroup/box/cpu.stat", "throttled_usec 120050\n")
        write(tmp_path, "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "4\n")
    seen = witness.seen
    assert seen["wall_ns"] == 1_000_000_000
    assert seen["steal"] == 0.4762  # 100 of 210 ticks
    assert seen["cpu_pressure"] == 0.25
    assert seen["throttled_ns"] == 120_000_000
    assert seen["thermal_throttles"] == 3
    assert seen["frequency_mhz"] == [1200, 3000]
    assert seen["quota_cpus"] == 1.5
    text = describe(seen)
    assert "CPU stolen 47.6 %" in text
    assert "waiting for a CPU 25.0 %" in text
    assert "container throttled for 120 ms (quota 1.5 CPUs)" in text
    assert "3 thermal throttles" in text
    assert "cores between 1200 and 3000 MHz" in text


def test_an_older_control_group_reports_throttling_too(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 500\n")
    with NoiseWitness(root=tmp_path) as witness:
        write(tmp_path, "sys/fs/cgroup/cpu/cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 900\n")
    assert witness.seen["throttled_ns"] == 400


def test_what_the_system_does_not_tell_is_absent(tmp_path: Path) -> None:
    with NoiseWitness(root=tmp_path) as witness:
        pass
    assert not witness.seen.keys() & {"steal", "cpu_pressure", "throttled_ns", "frequency_mhz", "quota_cpus"}
    assert witness.seen["cpus"] >= 1


def test_a_quiet_machine_has_nothing_to_say() -> None:
    quiet = {"wall_ns": 10**9, "steal": 0.001, "involuntary_switches": 0, "load": 0.5, "cpus": 2}
    assert describe(quiet) == ""
    assert describe({}) == ""
