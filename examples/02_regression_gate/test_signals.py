import pytest
from signals import momentum

PRICES = [100 + 0.1 * (i * 37 % 101) for i in range(5_000)]


@pytest.mark.perf_budget(threshold="3%")
def test_momentum(perf):
    perf.digest("momentum", perf(momentum, PRICES, 20))
