"""The candidates of one token: its k best logits, without most of the head.

    score_rows    the most that every logit can be, from the upper planes
    finish_rows   the logits of the most promising rows: the k-th best of them
                  is a floor that the k best of all reach
    finish_rows   those of all others that can reach it
    collect       the k best

Threads share out rows; barriers part the steps. `ops/certified.mojo` says why
nothing is missed.
"""

from std.math import log
from std.utils.numerics import inf, max_finite, neg_inf

from formats.planes import PLANES, group_at, n_blocks, upper_bytes
from formats.rows import LANES, Vector
from model.engine import NOT_A_NUMBER, Engine
from model.spec import Candidates
from ops.certified import finish_group, prepare, score_group, token_width
from ops.matmul import Bytes, Prefetcher
from ops.softcap import capped, softcap
from ops.top_k import insert, top_k
from runtime.views import F32, F32Ptr, I32

comptime CandidatesPtr = Pointer[Candidates, MutUntrackedOrigin]

comptime MORE_GROUPS = 16
"""Groups of rows that are finished for the floor, besides one for each of k."""

comptime PIECES = 8
"""Of each thread's share of rows that are scored: enough to even out."""

comptime CAP_ERROR = 2e-6
"""How far `ops.softcap.capped` may be off, in caps; tanh is by 3.1e-7."""


@always_inline
def is_certified(engine: Engine) -> Bool:
    """Whether the head is read in part."""
    return engine.model[].head.layout == PLANES and not engine.is_exact()


@always_inline
def n_groups_of(wanted: Candidates) -> Int:
    return (Int(wanted.vocab_size) + LANES - 1) // LANES


@always_inline
def lanes_below(n: Int) -> SIMD[DType.bool, LANES]:
    """The first `n` lanes; all of them, or none, past the ends."""
    var lanes = SIMD[I32, LANES](
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    )
    return lanes.lt(Int32(max(0, min(n, LANES))))


def mark_also(engine: Engine, wanted: Candidates, mark: UInt8):
    """Have the rows of `also` finished, whatever they are; 0: no more."""
    for i in range(Int(wanted.n_also)):
        var id = Int(wanted.also.unsafe_value()[unsafe_offset=i])
        engine.marks[unsafe_offset=id // LANES] = mark
    # What is read 16 at a time has an end.
    var n = n_groups_of(wanted)
    for i in range(n, (n + LANES - 1) // LANES * LANES):
        engine.bounds[unsafe_offset=i] = neg_inf[F32]()


def score_rows(engine: Engine, wanted: Candidates, thread: Int):
    """Write the most that the logits of every group of rows can be."""
    ref head = engine.model[].head
    var n = n_blocks(head)
    var groups = n_groups_of(wanted)
    var starts = engine.scratch_of(thread)
    prepare(engine.blocks, n, starts)
    var width = token_width(engine.blocks, n)
    var size = max(1, groups // (PIECES * engine.team[].n_threads))
    var group_size = upper_bytes(head)
    var piece = engine.team[].take()

    @always_inline
    def bytes_of(piece: Int) {imm} -> Bytes:
        var first = min(piece * size, groups)
        return Bytes(
            head.data.unsafe_value().unsafe_offset(first * group_size),
            (min(first + size, groups) - first) * group_size,
        )

    var fetch = Prefetcher(bytes_of(piece))
    while piece * size < groups:
        var next = engine.team[].take()
        fetch.then(bytes_of(next))
        for group in range(piece * size, min((piece + 1) * size, groups)):
            var row = group * LANES
            var most = score_group(
                group_at(head, row), engine.blocks, starts, n, width, fetch
            )
            # What is not finite has to be looked at.
            most = abs(most).le(max_finite[F32]()).select(most, inf[F32]())
            most = lanes_below(Int(wanted.vocab_size) - row).select(
                most, neg_inf[F32]()
            )
            engine.bounds[unsafe_offset=group] = (
                most.reduce_max() if engine.marks[unsafe_offset=group]
                == 0 else inf[F32]()
            )
        piece = next


def count_from(bounds: F32Ptr, n: Int, floor: Float32) -> Int:
    """How many of n bounds, rounded up to whole vectors, reach `floor`."""
    var counts = SIMD[I32, LANES](0)
    for i in range(0, n, LANES):
        var v = bounds.unsafe_load[width=LANES](i)
        counts += v.ge(floor).cast[I32]()
    return Int(counts.reduce_add())


def floor_of(engine: Engine, wanted: Candidates) -> Float32:
    """A bound that about `MORE_GROUPS` + k groups reach, besides those that are
    finished in any case. Each thread finds the same."""
    var n = n_groups_of(wanted)
    var bounds = engine.bounds
    var target = count_from(bounds, n, inf[F32]()) + MORE_GROUPS + Int(wanted.k)
    if target >= n:
        return neg_inf[F32]()
    var least = Vector(max_finite[F32]())
    var greatest = Vector(-max_finite[F32]())
    for i in range(0, n, LANES):
        var v = bounds.unsafe_load[width=LANES](i)
        var finite = abs(v).le(max_finite[F32]())
        least = min(least, finite.select(v, least))
        greatest = max(greatest, finite.select(v, greatest))
    var low = least.reduce_min()
    var high = greatest.reduce_max()
    for _ in range(30):
        var middle = 0.5 * low + 0.5 * high
        var count = count_from(bounds, n, middle)
        if count < target:
            high = middle
        elif count > 2 * target:
            low = middle
        else:
            return middle
    return low


struct Chosen:
    """The groups that a thread finishes, one after another: it takes 16 at a
    time, of which few have bounds that ask for it."""

    var engine: Engine
    var n: Int
    var floor: Float32
    var below: Float32
    var first: Int
    var left: SIMD[DType.bool, LANES]

    @always_inline
    def __init__(
        out self, engine: Engine, n: Int, floor: Float32, below: Float32
    ):
        """Groups below `n` whose bound reaches `floor`, and is less than `below`
        or that is infinite."""
        self.engine = engine
        self.n = n
        self.floor = floor
        self.below = below
        self.first = -1
        self.left = SIMD[DType.bool, LANES](fill=False)

    def next(mut self) -> Int:
        """The next of them, or n when there is none."""
        while not self.left.reduce_or():
            self.first = self.engine.team[].take() * LANES
            if self.first >= self.n:
                return self.n
            var v = self.engine.bounds.unsafe_load[width=LANES](self.first)
            self.left = v.ge(self.floor) & lanes_below(self.n - self.first)
            if self.below < inf[F32]():
                self.left = self.left & v.lt(self.below)
        var i = 0
        while not self.left[i]:
            i += 1
        self.left[i] = False
        return self.first + i


def finish_one(engine: Engine, wanted: Candidates, group: Int, next: Int):
    """Write the logits of a group of rows, and fetch the next group."""
    ref model = engine.model[]
    var row = group * LANES
    var n = n_blocks(model.head)
    var logits = finish_group(
        group_at(model.head, row),
        group_at(model.head, next * LANES),
        engine.blocks,
        n,
    )
    var there = lanes_below(Int(wanted.vocab_size) - row)
    var finite = abs(logits).le(max_finite[F32]())
    if not (finite | ~there).reduce_and():
        engine.state[unsafe_offset=NOT_A_NUMBER] = 1
    var place = engine.logits.unsafe_offset(row)
    place.unsafe_store(0, logits)
    if model.logit_softcap > 0:
        # In vectors or one by one just as a whole row of logits is capped.
        softcap(
            place, min(LANES, Int(model.vocab_size) - row), model.logit_softcap
        )
        logits = place.unsafe_load[width=LANES]()
    place.unsafe_store(0, there.select(logits, neg_inf[F32]()))


def finish_rows(
    engine: Engine, wanted: Candidates, floor: Float32, below: Float32
):
    """Finish the groups whose bounds reach `floor`, but for those from `below`
    on that were finished before (none, if it is infinite)."""
    var n = n_groups_of(wanted)
    var chosen = Chosen(engine, n, floor, below)
    var group = chosen.next()
    while group < n:
        var next = chosen.next()
        finish_one(engine, wanted, group, next if next < n else group)
        group = next


def take_also(engine: Engine, wanted: Candidates):
    """Give out the logits of `also`, and leave them out of the others."""
    for i in range(Int(wanted.n_also)):
        var id = Int(wanted.also.unsafe_value()[unsafe_offset=i])
        wanted.also_logits.unsafe_value()[unsafe_offset=i] = engine.logits[
            unsafe_offset=id
        ]
        engine.logits[unsafe_offset=id] = neg_inf[F32]()


def collect(engine: Engine, wanted: Candidates, floor: Float32):
    """The k best of the groups whose bounds reach `floor`."""
    var k = Int(wanted.k)
    var ids = wanted.ids.unsafe_value()
    var values = wanted.logits.unsafe_value()
    for i in range(k):
        ids[unsafe_offset=i] = -1
        values[unsafe_offset=i] = neg_inf[F32]()
    var n = n_groups_of(wanted)
    var skipped = False
    for group in range(n):
        if group % LANES == 0:
            var some = engine.bounds.unsafe_load[width=LANES](group)
            skipped = not some.ge(floor).reduce_or()
        if skipped or engine.bounds[unsafe_offset=group] < floor:
            continue
        var v = engine.logits.unsafe_load[width=LANES](group * LANES)
        if not v.gt(values[unsafe_offset=k - 1]).reduce_or():
            continue
        for i in range(LANES):
            if v[i] > values[unsafe_offset=k - 1]:
                insert(ids, values, k - 1, group * LANES + i, v[i])


def uncapped(logit: Float32, cap: Float32) -> Float32:
    """What no logit is below that comes out of the soft cap as `logit` or more."""
    if cap <= 0:
        return logit
    var y = Float64(logit) / Float64(cap) - CAP_ERROR
    if y <= -1:
        return neg_inf[F32]()
    var x = 0.5 * Float64(cap) * log((1 + y) / (1 - y))
    return Float32(x - CAP_ERROR * abs(x))


def find_candidates(engine: Engine, to: CandidatesPtr, thread: Int):
    """Choose them by a certified head; `mark_also` came before."""
    var wanted = to[]
    score_rows(engine, wanted, thread)
    engine.team[].barrier()
    var first = floor_of(engine, wanted)
    finish_rows(engine, wanted, first, inf[F32]())
    engine.team[].barrier()
    if thread == 0:
        take_also(engine, wanted)
        collect(engine, wanted, first)
        engine.floors[unsafe_offset=0] = uncapped(
            wanted.logits.unsafe_value()[unsafe_offset=Int(wanted.k) - 1],
            engine.model[].logit_softcap,
        )
    engine.team[].barrier()
    var floor = engine.floors[unsafe_offset=0]
    finish_rows(engine, wanted, floor, first)
    engine.team[].barrier()
    if thread == 0:
        collect(engine, wanted, min(floor, first))
        to[].n_finished = Int32(
            LANES
            * count_from(engine.bounds, n_groups_of(wanted), min(floor, first))
        )
        mark_also(engine, wanted, 0)


def choose_candidates(engine: Engine, to: CandidatesPtr):
    """Choose them from all logits, which are in `engine.logits`."""
    var wanted = to[]
    ref model = engine.model[]
    var n = Int(wanted.vocab_size)
    if model.logit_softcap > 0:
        softcap(engine.logits, Int(model.vocab_size), model.logit_softcap)
    take_also(engine, wanted)
    var finite = top_k(
        engine.logits,
        n,
        Int(wanted.k),
        wanted.ids.unsafe_value(),
        wanted.logits.unsafe_value(),
    )
    for i in range(Int(wanted.n_also)):
        var logit = wanted.also_logits.unsafe_value()[unsafe_offset=i]
        finite = finite and abs(logit) <= max_finite[F32]()
    if not finite:
        engine.state[unsafe_offset=NOT_A_NUMBER] = 1
    to[].n_finished = wanted.vocab_size
