"""A team of threads that runs one job together, in phases.

One dispatch serves a whole forward pass: every thread runs the same job and
`barrier` parts its phases, for a dispatch per step would cost more than many a
step. Within a phase threads `take` pieces of work as they come, so that a slow
core holds up nobody. The calling thread is thread 0. Waiting threads spin;
workers without a job soon sleep in the kernel.

The memory of a team is the caller's; threads come from the C library.
"""

from std.atomic import Atomic, Ordering
from std.ffi import external_call
from std.sys import CompilationTarget, llvm_intrinsic

from runtime.views import CACHE_LINE, I32Ptr

comptime Opaque = Pointer[NoneType, MutUntrackedOrigin]
comptime TeamPtr = Pointer[Team, MutUntrackedOrigin]

comptime Job = def(Opaque, TeamPtr, Int) thin -> None
"""A job gets its context, the team and the index of its thread."""

comptime BARRIER_SPINS = 2_000
"""Turns of a spin loop (about 50 microseconds) before giving up the core."""

comptime IDLE_SPINS = 8_000
"""The same for a worker without a job: longer than sampling a token takes."""

comptime LINE = CACHE_LINE // 4
"""Words between two that threads fight over."""


@always_inline
def pause():
    """Tell the core that it is spinning."""
    comptime if CompilationTarget.is_x86():
        llvm_intrinsic["llvm.x86.sse2.pause", NoneType]()
    else:
        llvm_intrinsic["llvm.aarch64.hint", NoneType](Int32(1))


comptime FUTEX = 202 if CompilationTarget.is_x86() else 98


def sleep_while(word: I32Ptr, value: Int32):
    """Sleep while `word` holds `value`; may come back early."""
    comptime if CompilationTarget.is_macos():
        _ = external_call["__ulock_wait", Int32](
            UInt32(1), word, UInt64(value.cast[DType.uint32]()), UInt32(0)
        )
    else:
        _ = external_call["syscall", Int, num_fixed_args=1](
            FUTEX, word, Int(128), Int(value), Int(0)
        )


def wake_all(word: I32Ptr):
    """Wake every thread that sleeps on `word`."""
    comptime if CompilationTarget.is_macos():
        _ = external_call["__ulock_wake", Int32](UInt32(0x101), word, UInt64(0))
    else:
        _ = external_call["syscall", Int, num_fixed_args=1](
            FUTEX, word, Int(129), Int(Int32.MAX)
        )


@fieldwise_init
struct Worker(TrivialRegisterPassable):
    """What a worker thread is started with, and its pthread_t."""

    var team: TeamPtr
    var index: Int
    var thread: UInt


@fieldwise_init
struct Team(TrivialRegisterPassable):
    """The threads' shared state: words a cache line apart, then the workers."""

    comptime GENERATION = 0 * LINE
    comptime SLEEPERS = 1 * LINE
    comptime ARRIVED = 2 * LINE
    comptime PHASE = 3 * LINE
    comptime STOP = 4 * LINE
    comptime TAKEN = 5 * LINE
    comptime N_WORDS = 7 * LINE

    var words: I32Ptr
    var workers: Pointer[Worker, MutUntrackedOrigin]
    var job: Job
    var context: Opaque
    var n_threads: Int

    @always_inline
    def word[index: Int](self) -> I32Ptr:
        return self.words.unsafe_offset(index)

    @always_inline
    def barrier(self):
        """Come back when every thread of the job has called it."""
        var phase = self.word[Self.PHASE]()
        var arrived = self.word[Self.ARRIVED]()
        var seen = Atomic[Int32].load[ordering=Ordering.RELAXED](phase)
        var before = Atomic[Int32].fetch_add[ordering=Ordering.ACQUIRE_RELEASE](
            arrived, 1
        )
        if Int(before) == self.n_threads - 1:
            Atomic[Int32].store[ordering=Ordering.RELAXED](arrived, 0)
            # Nobody is left in the phase that ends: its counter starts anew.
            Atomic[Int32].store[ordering=Ordering.RELAXED](
                self.counter(seen), 0
            )
            Atomic[Int32].store[ordering=Ordering.RELEASE](phase, seen + 1)
            return
        var spins = 0
        while Atomic[Int32].load[ordering=Ordering.ACQUIRE](phase) == seen:
            pause()
            spins += 1
            if spins > BARRIER_SPINS:
                _ = external_call["sched_yield", Int32]()

    @always_inline
    def counter(self, phase: Int32) -> I32Ptr:
        """Phases use two counters in turn."""
        return self.words.unsafe_offset(Self.TAKEN + Int(phase & 1) * LINE)

    @always_inline
    def take(self) -> Int:
        """The number of the next piece of work in this phase: 0, 1, 2, ..."""
        var phase = Atomic[Int32].load[ordering=Ordering.RELAXED](
            self.word[Self.PHASE]()
        )
        return Int(
            Atomic[Int32].fetch_add[ordering=Ordering.RELAXED](
                self.counter(phase), 1
            )
        )


def work(worker: Pointer[Worker, MutUntrackedOrigin]) abi("C") -> Int:
    """What a worker thread does from start to stop."""
    var team = worker[].team
    var generation = team[].word[Team.GENERATION]()
    var sleepers = team[].word[Team.SLEEPERS]()
    var seen = Int32(0)
    while True:
        var spins = 0
        while True:
            var now = Atomic[Int32].load[ordering=Ordering.ACQUIRE](generation)
            if now != seen:
                seen = now
                break
            pause()
            spins += 1
            if spins > IDLE_SPINS:
                _ = Atomic[Int32].fetch_add(sleepers, 1)
                sleep_while(generation, seen)
                _ = Atomic[Int32].fetch_add(sleepers, -1)
        if Atomic[Int32].load(team[].word[Team.STOP]()) != 0:
            return 0
        team[].job(team[].context, team, worker[].index)
        team[].barrier()


def no_job(context: Opaque, team: TeamPtr, thread: Int):
    """What a team runs before it is given a job."""
    pass


def team_bytes(n_threads: Int) -> Int:
    """Bytes of memory that `team_start` needs."""
    return 4 * Team.N_WORDS + CACHE_LINE * (n_threads + 2)


def team_start(team: TeamPtr, n_threads: Int) -> Bool:
    """Lay a team out in zeroed memory and start its workers.

    False when the system gives too few threads; then none is left running.
    """
    var words = team.unsafe_bitcast[Int32]().unsafe_offset(2 * LINE)
    var workers = words.unsafe_offset(Team.N_WORDS).unsafe_bitcast[Worker]()
    team.unsafe_write(
        Team(words, workers, no_job, Opaque.unsafe_dangling(), n_threads)
    )
    for i in range(1, n_threads):
        var worker = workers.unsafe_offset(i)
        worker.unsafe_write(Worker(team, i, 0))
        var code = external_call["pthread_create", Int32](
            worker.unsafe_bitcast[UInt]().unsafe_offset(2), Int(0), work, worker
        )
        if code != 0:
            team[].n_threads = i
            team_stop(team)
            return False
    return True


def team_stop(team: TeamPtr):
    """End the workers; the memory is free again."""
    Atomic[Int32].store(team[].word[Team.STOP](), 1)
    call_workers(team)
    for i in range(1, team[].n_threads):
        _ = external_call["pthread_join", Int32](
            team[].workers[unsafe_offset=i].thread, Int(0)
        )


@always_inline
def call_workers(team: TeamPtr):
    """Let the workers see that something has changed."""
    var generation = team[].word[Team.GENERATION]()
    _ = Atomic[Int32].fetch_add(generation, 1)
    if Atomic[Int32].load(team[].word[Team.SLEEPERS]()) > 0:
        wake_all(generation)


def team_run(team: TeamPtr, job: Job, context: Opaque):
    """Run `job` on every thread of the team; come back when all have ended."""
    team[].job = job
    team[].context = context
    call_workers(team)
    job(context, team, 0)
    team[].barrier()
