"""Times in ticks: their text, both ways, and the clocks that give them."""

from __future__ import annotations

import time
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncstore.clock import MAX_TICKS, SystemClock, format_ticks, parse_ticks
from syncstore.errors import InvalidRequest
from syncstore.testing.clocks import SteppableClock


@pytest.mark.parametrize(
    ("ticks", "text"),
    [(0, "0.00"), (1, "0.01"), (10, "0.10"), (100, "1.00"), (138863580740, "1388635807.40"), (1200, "12.00")],
)
def test_the_text_has_exactly_two_decimals(ticks: int, text: str) -> None:
    assert format_ticks(ticks) == text
    assert parse_ticks(text) == ticks


@given(st.integers(0, MAX_TICKS))
def test_text_and_ticks_are_the_same(ticks: int) -> None:
    assert parse_ticks(format_ticks(ticks)) == ticks
    assert Decimal(format_ticks(ticks)) * 100 == ticks


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("0", 0),
        ("5", 500),
        ("5.", 500),
        ("1388635807.4", 138863580740),
        ("1388635807.41", 138863580741),
        ("1388635807.4099999", 138863580741),
        ("1388635807.4100001", 138863580741),
        ("1388635807.41499", 138863580741),
        ("1388635807.41501", 138863580742),
        ("0.001", 0),
        ("1e9", 100_000_000_000),
        ("1E+2", 10_000),
        ("00012.50", 1250),
        ("4102405200000", 410_240_520_000_000),  # what Firefox sends by mistake
    ],
)
def test_clients_may_write_times_in_their_own_ways(text: str, ticks: int) -> None:
    assert parse_ticks(text) == ticks


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "abc", "-1", "-0.5", "-0", "NaN", "nan", "Infinity", "inf", "-inf", "1,5", "1 ", " 1", "1\n",
        "1_000", "1_0.5", "٣", "1.٣", "²", "0x10", "1.2.3", "1e99", "1e999999999", "9" * 20, "1" * 70, "1e", "e5",
        "1388635807.4x", "\x00", "1.0\x00", "sNaN",
    ],
)  # fmt: skip
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_ticks(text)
    assert caught.value.code == 0


@given(st.text(max_size=20))
def test_no_text_is_any_other_trouble(text: str) -> None:
    try:
        ticks = parse_ticks(text)
    except InvalidRequest:
        return
    assert 0 <= ticks <= MAX_TICKS


@given(st.decimals(0, 10**12, places=6))
def test_times_are_rounded_to_the_nearest_tick(value: Decimal) -> None:
    assert parse_ticks(str(value)) == int((value * 100).to_integral_value(ROUND_HALF_EVEN))


@given(st.floats(0, 10**10))
def test_a_float_that_was_a_time_finds_its_tick(seconds: float) -> None:
    ticks = round(seconds * 100)
    assert parse_ticks(str(ticks / 100)) == ticks


def test_the_systems_clock_rounds_down() -> None:
    clock = SystemClock()
    before = time.time_ns()
    readings = (clock.now() * 10, clock.now_ms(), int(clock.seconds() * 1000))
    after = time.time_ns()
    assert all(before // 10**6 - 10 <= reading <= after // 10**6 for reading in readings)


def test_the_systems_clock_waits() -> None:
    clock = SystemClock()
    began = clock.monotonic()
    clock.sleep(0.01)
    assert clock.monotonic() - began >= 0.01


class TestSteppableClock:
    def test_time_passes_when_a_test_says_so(self) -> None:
        clock = SteppableClock()
        start = clock.now_ms()
        clock.step(1.5)
        assert (clock.now_ms(), clock.now(), clock.seconds()) == (
            start + 1500,
            start // 10 + 150,
            start / 1000 + 1.5,
        )

    def test_sleeping_takes_no_time_and_lets_it_pass(self) -> None:
        clock = SteppableClock()
        start, monotonic = clock.now_ms(), clock.monotonic()
        for _ in range(1000):
            clock.sleep(0.0105)
        assert clock.now_ms() - start == 10_500
        assert clock.monotonic() - monotonic == pytest.approx(10.5)

    def test_it_can_go_back_but_its_monotonic_side_does_not(self) -> None:
        clock = SteppableClock()
        start, monotonic = clock.now_ms(), clock.monotonic()
        clock.step(-60)
        assert clock.now_ms() == start - 60_000
        assert clock.monotonic() == monotonic

    def test_it_can_stand_still(self) -> None:
        clock = SteppableClock()
        start, monotonic = clock.now_ms(), clock.monotonic()
        clock.stands_still = True
        clock.sleep(5)
        assert clock.now_ms() == start
        assert clock.monotonic() == monotonic + 5


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux has it")
def test_deadlines_come_nearer_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    began = clock.monotonic()
    woken = {
        time.CLOCK_MONOTONIC: time.monotonic(),
        time.CLOCK_BOOTTIME: time.clock_gettime(time.CLOCK_BOOTTIME) + 3600,
    }
    monkeypatch.setattr(time, "clock_gettime", woken.__getitem__)
    assert clock.monotonic() - began >= 3600


def test_where_the_system_does_not_count_sleep_there_are_deadlines_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("syncstore.clock._SINCE_BOOT", None)
    before = time.monotonic()
    assert before <= SystemClock().monotonic() <= time.monotonic()
