"""A mixture of experts: each token goes to a few of many gated MLPs.

All threads run `run_experts`; its barriers are here. Visits of one expert lie
together, so that its weights are read once for all tokens that come to it.
"""

from model.engine import Engine, Forms
from model.layer import token_row
from model.spec import Layer
from ops.bfloat16 import halve_row, halves_bytes
from ops.exponential import fast_exp
from ops.geglu import geglu
from ops.matmul import (
    Activations,
    Product,
    Stretch,
    bytes_of,
    n_pieces,
    run_stretch,
    share_products,
    stretch_of,
)
from ops.prefetcher import Prefetcher
from ops.quantize import quantize_row, quantized_bytes
from ops.rms_norm import add_rms_norm, rms_norm
from ops.top_k import top_k
from ops.vectors import add_scaled, copy
from runtime.views import F32, BytePtr, F32Ptr


def norm_for_router(engine: Engine, layer: Layer, token: Int):
    """What the router looks at: the residual, in a norm of its own."""
    var d = Int(engine.model[].hidden_dim)
    rms_norm(
        token_row(engine.normed, token, d),
        token_row(engine.residual, token, d),
        layer.router_norm.unsafe_value(),
        d,
        engine.model[].norm_epsilon,
    )


def share_router(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """Scores of all experts; in float32 always, for a choice hangs on them."""
    share_products[1](
        engine.team,
        Array[Product, 1](
            fill=Product(
                layer.router, engine.routes.logits, Int(layer.n_experts)
            )
        ),
        Activations(engine.normed, engine.blocks, None, n_tokens),
        True,
        engine.scratch_of(thread),
    )


def route_token(engine: Engine, layer: Layer, token: Int):
    """The experts of a token and their shares, and what they will get.

    Brought to a sum of 1, the greatest of a softmax over all are a softmax over
    the greatest.
    """
    var n = Int(layer.n_experts)
    var used = Int(layer.n_experts_used)
    var experts = engine.routes.experts.unsafe_offset(token * used)
    var shares = token_row(engine.routes.shares, token, used)
    _ = top_k(
        token_row(engine.routes.logits, token, n), n, used, experts, shares
    )
    var best = shares[unsafe_offset=0]
    var total = Float32(0)
    for i in range(used):
        var share = fast_exp(SIMD[F32, 1](shares[unsafe_offset=i] - best))[0]
        shares[unsafe_offset=i] = share
        total += share
    for i in range(used):
        shares[unsafe_offset=i] *= (
            layer.expert_scales.unsafe_value()[
                unsafe_offset=Int(experts[unsafe_offset=i])
            ]
            / total
        )
    var d = Int(engine.model[].hidden_dim)
    rms_norm(
        token_row(engine.normed, token, d),
        token_row(engine.residual, token, d),
        layer.expert_norm.unsafe_value(),
        d,
        engine.model[].norm_epsilon,
    )


def sort_visits(engine: Engine, layer: Layer, n_tokens: Int):
    """Lay out the visits, expert by expert, tokens in their order."""
    ref routes = engine.routes
    var n = Int(layer.n_experts)
    var n_visits = n_tokens * Int(layer.n_experts_used)
    for e in range(n + 1):
        routes.first[unsafe_offset=e] = 0
    for i in range(n_visits):
        var e = Int(routes.experts[unsafe_offset=i])
        routes.first[unsafe_offset=e] += 1
    var end = Int32(0)
    for e in range(n + 1):
        end += routes.first[unsafe_offset=e]
        routes.first[unsafe_offset=e] = end
    # Each is where its expert's visits end; backwards they become the firsts.
    for i in range(n_visits - 1, -1, -1):
        var e = Int(routes.experts[unsafe_offset=i])
        var visit = routes.first[unsafe_offset=e] - 1
        routes.first[unsafe_offset=e] = visit
        routes.visits[unsafe_offset=i] = visit
        routes.hosts[unsafe_offset=Int(visit)] = Int32(e)
        routes.tokens[unsafe_offset=Int(visit)] = Int32(
            i // Int(layer.n_experts_used)
        )


@always_inline
def round_visit(engine: Engine, x: F32Ptr, n: Int, visit: Int, forms: Forms):
    """Write a visit's activations in the forms that its products read."""
    if forms.blocks:
        quantize_row(
            x, n, engine.routes.blocks.unsafe_offset(visit * quantized_bytes(n))
        )
    if forms.halves:
        halve_row(
            x, n, engine.routes.halves.unsafe_offset(visit * halves_bytes(n))
        )


def receive_visit(engine: Engine, layer: Layer, visit: Int):
    """Bring a token's activations to an expert."""
    var d = Int(engine.model[].hidden_dim)
    var token = Int(engine.routes.tokens[unsafe_offset=visit])
    var x = token_row(engine.routes.x, visit, d)
    copy(x, token_row(engine.normed, token, d), d)
    var expert = layer.expert(Int(engine.routes.hosts[unsafe_offset=visit]))
    var forms = engine.forms(expert.gate_proj) | engine.forms(expert.up_proj)
    round_visit(engine, x, d, visit, forms)


def gate_visit(engine: Engine, layer: Layer, visit: Int):
    """The gate of an expert, rounded for its last product."""
    var dim = Int(layer.expert_dim)
    var gate = token_row(engine.routes.gate, visit, dim)
    geglu(gate, token_row(engine.routes.up, visit, dim), dim)
    var expert = layer.expert(Int(engine.routes.hosts[unsafe_offset=visit]))
    round_visit(engine, gate, dim, visit, engine.forms(expert.down_proj))


@fieldwise_init
struct Piece(ImplicitlyCopyable):
    """A stretch of rows of one expert's product with all its visits."""

    var product: Product
    var x: Activations
    var stretch: Stretch


struct Pieces(ImplicitlyCopyable):
    """Pieces of work of all experts that have visits, one expert after another.

    Threads take rising numbers, so each goes through the experts once.
    """

    var is_last: Bool
    """Whether the products are the last of the experts' MLPs, or the two first.
    """
    var expert: Int
    var matrix: Int
    """The first or the second."""
    var before: Int
    """Pieces of the products before."""

    def __init__(out self, is_last: Bool):
        self.is_last = is_last
        self.expert = 0
        self.matrix = 0
        self.before = 0

    def product(self, engine: Engine, layer: Layer) -> Product:
        """The product that this stands at."""
        var first = Int(engine.routes.first[unsafe_offset=self.expert])
        var expert = layer.expert(self.expert)
        var d = Int(engine.model[].hidden_dim)
        var dim = Int(layer.expert_dim)
        if self.is_last:
            var x = token_row(engine.routes.x, first, d)
            return Product(expert.down_proj, x, d)
        if self.matrix == 0:
            var gate = token_row(engine.routes.gate, first, dim)
            return Product(expert.gate_proj, gate, dim)
        var up = token_row(engine.routes.up, first, dim)
        return Product(expert.up_proj, up, dim)

    def activations(self, engine: Engine, layer: Layer) -> Activations:
        """What the visits of the expert bring to it."""
        ref routes = engine.routes
        var first = Int(routes.first[unsafe_offset=self.expert])
        var n = Int(engine.model[].hidden_dim)
        var values = routes.x
        if self.is_last:
            n = Int(layer.expert_dim)
            values = routes.gate
        var halves: Optional[BytePtr] = None
        if engine.activations(values, 1).halves:
            halves = routes.halves.unsafe_offset(first * halves_bytes(n))
        return Activations(
            token_row(values, first, n),
            routes.blocks.unsafe_offset(first * quantized_bytes(n)),
            halves,
            Int(routes.first[unsafe_offset=self.expert + 1]) - first,
        )

    def find(mut self, engine: Engine, layer: Layer, piece: Int) -> Piece:
        """The piece of that number; its stretch is past the last when there is
        none."""
        var n_threads = engine.team[].n_threads
        var products = Array[Product, 1](
            fill=Product(layer.expert(0).gate_proj, engine.routes.gate, 0)
        )
        while self.expert < Int(layer.n_experts):
            var x = self.activations(engine, layer)
            if x.n_tokens > 0:
                products[0] = self.product(engine, layer)
                var stretch = stretch_of[1](
                    products, piece - self.before, n_threads
                )
                if stretch.index == 0:
                    return Piece(products[0], x, stretch)
                self.before += n_pieces(products[0], n_threads)
                if self.matrix == 0 and not self.is_last:
                    self.matrix = 1
                    continue
            self.matrix = 0
            self.expert += 1
        var nothing = Activations(
            engine.routes.x, engine.routes.blocks, None, 0
        )
        return Piece(products[0], nothing, Stretch(1, 0, 0))


def share_experts(engine: Engine, layer: Layer, is_last: Bool, thread: Int):
    """Products of experts with what their visits bring."""
    var pieces = Pieces(is_last)
    var current = pieces.find(engine, layer, engine.team[].take())
    var fetch = Prefetcher(
        bytes_of[1](Array[Product, 1](fill=current.product), current.stretch)
    )
    while current.stretch.index == 0:
        var next = pieces.find(engine, layer, engine.team[].take())
        fetch.then(
            bytes_of[1](Array[Product, 1](fill=next.product), next.stretch)
        )
        run_stretch(
            current.product,
            current.x,
            engine.is_exact(),
            current.stretch,
            engine.scratch_of(thread),
            fetch,
        )
        current = next


def join_experts(engine: Engine, layer: Layer, token: Int):
    """The branch of the MLP, normed, and the normed sum of a token's experts."""
    var d = Int(engine.model[].hidden_dim)
    var used = Int(layer.n_experts_used)
    var sum = token_row(engine.normed, token, d)
    for i in range(d):
        sum[unsafe_offset=i] = 0
    for i in range(token * used, token * used + used):
        var visit = Int(engine.routes.visits[unsafe_offset=i])
        var share = engine.routes.shares[unsafe_offset=i]
        add_scaled(sum, token_row(engine.routes.x, visit, d), share, d)
    var branch = token_row(engine.branch, token, d)
    var epsilon = engine.model[].norm_epsilon
    rms_norm(branch, branch, layer.post_dense_norm.unsafe_value(), d, epsilon)
    add_rms_norm(branch, sum, layer.post_expert_norm.unsafe_value(), d, epsilon)


def run_experts(engine: Engine, layer: Layer, n_tokens: Int, thread: Int):
    """What experts make of the residuals is in their visits in the end, for
    `join_experts`."""
    var n_visits = n_tokens * Int(layer.n_experts_used)
    var token = engine.team[].take()
    while token < n_tokens:
        norm_for_router(engine, layer, token)
        token = engine.team[].take()
    engine.team[].barrier()
    share_router(engine, layer, n_tokens, thread)
    engine.team[].barrier()
    token = engine.team[].take()
    while token < n_tokens:
        route_token(engine, layer, token)
        token = engine.team[].take()
    engine.team[].barrier()
    if thread == 0:
        sort_visits(engine, layer, n_tokens)
    engine.team[].barrier()
    var visit = engine.team[].take()
    while visit < n_visits:
        receive_visit(engine, layer, visit)
        visit = engine.team[].take()
    engine.team[].barrier()
    share_experts(engine, layer, False, thread)
    engine.team[].barrier()
    visit = engine.team[].take()
    while visit < n_visits:
        gate_visit(engine, layer, visit)
        visit = engine.team[].take()
    engine.team[].barrier()
    share_experts(engine, layer, True, thread)
    engine.team[].barrier()
