"""A team of threads: phases, shares of work, sleep and the end."""

from std.atomic import Atomic
from std.ffi import external_call
from std.testing import TestSuite, assert_equal, assert_true

from memory import some_bytes
from runtime.threads import (
    Opaque,
    Team,
    TeamPtr,
    team_bytes,
    team_run,
    team_start,
    team_stop,
)
from runtime.views import I32Ptr


def started(n_threads: Int) raises -> TeamPtr:
    var team = some_bytes(team_bytes(n_threads)).unsafe_bitcast[Team]()
    assert_true(team_start(team, n_threads))
    return team


def counters(n: Int) -> I32Ptr:
    return some_bytes(4 * n).unsafe_bitcast[Int32]()


def in_phases(context: Opaque, team: TeamPtr, thread: Int):
    """Each phase has to see what every thread wrote in the phase before."""
    var slots = context.unsafe_bitcast[Int32]()
    for phase in range(1, 500):
        if thread == phase % team[].n_threads:
            slots[unsafe_offset=0] += 1
        team[].barrier()
        if slots[unsafe_offset=0] != Int32(phase):
            _ = Atomic[Int32].fetch_add(slots.unsafe_offset(1), 1)
        team[].barrier()


def test_a_barrier_parts_what_was_written_before_from_what_is_read_after() raises:
    for n_threads in range(1, 5):
        var team = started(n_threads)
        var slots = counters(2)
        team_run(team, in_phases, slots.unsafe_bitcast[NoneType]())
        assert_equal(slots[unsafe_offset=0], 499)
        assert_equal(slots[unsafe_offset=1], 0)
        team_stop(team)


comptime PIECES = 300


def take_all(context: Opaque, team: TeamPtr, thread: Int):
    """Three phases of the same pieces; each piece counts who took it."""
    var taken = context.unsafe_bitcast[Int32]()
    for _ in range(3):
        var piece = team[].take()
        while piece < PIECES:
            _ = Atomic[Int32].fetch_add(taken.unsafe_offset(piece), 1)
            piece = team[].take()
        team[].barrier()


def test_every_piece_of_every_phase_is_taken_once() raises:
    for n_threads in range(1, 5):
        var team = started(n_threads)
        for run in range(1, 20):
            var taken = counters(PIECES)
            team_run(team, take_all, taken.unsafe_bitcast[NoneType]())
            for piece in range(PIECES):
                assert_equal(taken[unsafe_offset=piece], 3)
            if run % 5 == 0:
                # Long enough for the workers to fall asleep.
                _ = external_call["usleep", Int32](Int32(20_000))
        team_stop(team)


def count_one(context: Opaque, team: TeamPtr, thread: Int):
    _ = Atomic[Int32].fetch_add(
        context.unsafe_bitcast[Int32]().unsafe_offset(thread), 1
    )


def test_every_thread_runs_every_job_once() raises:
    var team = started(3)
    var counts = counters(3)
    for _ in range(1000):
        team_run(team, count_one, counts.unsafe_bitcast[NoneType]())
    for thread in range(3):
        assert_equal(counts[unsafe_offset=thread], 1000)
    team_stop(team)


def test_teams_start_and_stop_again_and_again() raises:
    for run in range(50):
        var team = started(1 + run % 4)
        var counts = counters(4)
        if run % 3 > 0:
            team_run(team, count_one, counts.unsafe_bitcast[NoneType]())
        team_stop(team)


def main() raises:
    TestSuite.discover_tests[__functions_in_module()]().run()
