import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.debate.quality import compare, decision_quality
from pytest_tradeperf.pipeline.errors import DataError


def world(rho, n_dates=250, n_tickers=20, seed=0):
    """Return (signal, returns, dates) with correlation ``rho`` and a shock shared by each date."""
    rng = np.random.default_rng(seed)
    shape = (n_dates, n_tickers)
    signal = rng.standard_normal(shape)
    noise = 0.5**0.5 * (rng.standard_normal((n_dates, 1)) + rng.standard_normal(shape))
    returns = 0.01 * (rho * signal + (1 - rho**2) ** 0.5 * noise)
    return signal.ravel(), returns.ravel(), np.repeat(np.arange(n_dates), n_tickers)


def test_an_oracle_is_one_its_opposite_none_and_silence_a_half():
    returns = np.array([0.01, -0.02, 0.03])
    assert decision_quality(np.sign(returns), returns) == 1.0
    assert decision_quality(-np.sign(returns), returns) == 0.0
    assert decision_quality(np.zeros(3), returns) == 0.5
    assert decision_quality([1.0], [0.0]) == 0.5


def test_signs_of_a_planted_signal_give_half_of_one_plus_its_correlation():
    signal, returns, _ = world(0.3, n_dates=3000)
    assert decision_quality(np.sign(signal), returns) == pytest.approx(0.65, abs=0.01)


def test_without_information_the_interval_is_around_a_half():
    held = 0
    for seed in range(20):
        signal, returns, dates = world(0.0, n_dates=120, seed=seed)
        first = compare(np.sign(signal), np.zeros_like(signal), returns, dates, draws=500).first
        held += first.low <= 0.5 <= first.high
    assert held >= 16


def test_equal_arms_cannot_be_told_apart_and_a_better_one_can():
    signal, returns, dates = world(0.2)
    noise = np.random.default_rng(9).standard_normal(signal.size)
    same = compare(np.sign(signal), np.sign(signal), returns, dates)
    assert (same.verdict, same.difference, same.low, same.high) == ("indistinguishable", 0.0, 0.0, 0.0)
    better = compare(np.sign(signal), np.sign(noise), returns, dates)
    assert better.verdict == "first"
    assert better.low > 0
    assert compare(np.sign(noise), np.sign(signal), returns, dates).verdict == "second"


def test_a_difference_as_small_as_real_ones_is_not_claimed_on_a_year():
    signal, returns, dates = world(0.03, n_tickers=5)
    noise = np.random.default_rng(1).standard_normal(signal.size)
    assert compare(np.sign(signal), np.sign(noise), returns, dates).verdict == "indistinguishable"


def test_the_same_seed_gives_the_same_interval_in_any_order_of_decisions():
    signal, returns, dates = world(0.1, n_dates=40)
    order = np.random.default_rng(3).permutation(signal.size)
    one = compare(np.sign(signal), -np.sign(signal), returns, dates)
    other = compare(np.sign(signal)[order], -np.sign(signal)[order], returns[order], dates[order])
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-0.5, 0.5)), min_size=1, max_size=30))
def test_quality_is_a_share_and_mirrors(rows):
    convictions, returns = np.array(rows).T
    quality = decision_quality(convictions, returns)
    assert -1e-9 <= quality <= 1 + 1e-9
    assert quality + decision_quality(-convictions, returns) == pytest.approx(1)


@pytest.mark.parametrize(
    ("convictions", "returns", "dates", "message"),
    [
        ([0.1], [0.1, 0.2], [1, 2], "shape"),
        ([2.0] * 20, [0.1] * 20, range(20), r"in \[-1, 1\]"),
        ([0.1] * 20, [float("nan")] * 20, range(20), "finite"),
        ([0.1] * 20, [0.1] * 20, range(19), "one date a decision"),
        ([0.1] * 20, [0.1] * 20, [1] * 20, "1 dates are too few"),
    ],
)
def test_what_cannot_be_compared_is_refused(convictions, returns, dates, message):
    with pytest.raises(DataError, match=message):
        compare(convictions, convictions, returns, list(dates))
