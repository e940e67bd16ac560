from pytest_tradeperf.report.stages import describe_stages


def test_no_stages_have_no_lines() -> None:
    assert describe_stages(()) == []


def test_stages_are_a_tree_with_shares_of_the_top_level() -> None:
    stages = (
        ("cycle", 1, 750_000_000),
        ("cycle/feeds", 2, 500_000_000),
        ("cycle/feeds/parse", 40, 5_000_000),
        ("report", 1, 250_000_000),
    )
    assert describe_stages(stages) == [
        "cycle         750 ms   75 %",
        "  feeds       500 ms   50 % x2",
        "    parse    5.00 ms    0 % x40",
        "report        250 ms   25 %",
    ]


def test_a_child_that_began_late_stands_under_its_parent() -> None:
    stages = (("a", 2, 2_000), ("b", 1, 2_000), ("a/late", 1, 1_000))
    assert [line.split()[0] for line in describe_stages(stages)] == ["a", "late", "b"]


def test_stages_without_time_have_no_share_and_no_crash() -> None:
    assert describe_stages((("a", 1, 0),)) == ["a       0 ns    0 %"]
