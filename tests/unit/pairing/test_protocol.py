import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pytest_tradeperf.pairing.protocol import Channel, ClosedError, LateError


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel, int]]:
    down, up = os.pipe(), os.pipe()
    ours, theirs = Channel(up[0], down[1]), Channel(down[0], up[1])
    yield ours, theirs, up[1]
    for channel in (ours, theirs):
        with suppress(OSError):
            channel.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[Channel, Channel, int]) -> None:
    ours, theirs, _ = ends
    for number in range(3):
        theirs.send({"is": number, "text": "ü\n" * 100})
    assert [ours.receive(1)["is"] for _ in range(3)] == [0, 1, 2]


def test_silence_is_late(ends: tuple[Channel, Channel, int]) -> None:
    with pytest.raises(LateError, match=r"no answer within 0\.01 s"):
        ends[0].receive(0.01)


def test_half_a_message_is_late_too(ends: tuple[Channel, Channel, int]) -> None:
    os.write(ends[2], b'{"is": ')
    with pytest.raises(LateError):
        ends[0].receive(0.01)


def test_end_of_the_other_process_is_noticed_in_both_directions(ends: tuple[Channel, Channel, int]) -> None:
    ends[1].close()
    with pytest.raises(ClosedError, match="is gone"):
        ends[0].receive(1)
    with pytest.raises(ClosedError, match="is gone"):
        ends[0].send({"do": "x"})


@pytest.mark.parametrize("line", [b"hello\n", b"[1]\n", b"\xff\n"])
def test_nonsense_is_no_message(ends: tuple[Channel, Channel, int], line: bytes) -> None:
    os.write(ends[2], line)
    with pytest.raises(ClosedError, match="answered"):
        ends[0].receive(1)
