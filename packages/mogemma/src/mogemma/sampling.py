"""Logits to the next token; a frozen class per method.

    logits ── LogitBias, RepetitionPenalty, OccurrencePenalty ──> Greedy, or
           ── divided by the temperature, the top_k greatest ──> TopP ──> MinP ──> one, drawn by its weight

Where a method needs the top_k greatest only, `Sampler.wanted` says so: those, and the logits of the tokens that rules know
of, lead to the same token as all logits do. No rule moves any other token, so the top_k greatest after the rules are among
the tokens that rules know of and the top_k greatest of the others.

This is the order of Hugging Face transformers, which Gemma's recommended numbers were made with: `top_p` and `min_p` look
at the distribution at the temperature, and `top_p` at the share among the tokens that `top_k` has left.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ._native import BestLogits, Wanted, top_k
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from .config import Sampling

_MOST_SORTED_IN = 256
"""Up to here the kernel's insertion into a sorted list is faster than numpy's partition."""

_MOST_WANTED = 512
"""More of the greatest logits than these are taken from all of them."""

_MOST_KNOWN = 2048
"""Where rules know of more tokens than these, all logits are computed too."""

_STEEPEST = 1e200
"""A temperature near 0 multiplies differences of logits by no more than this, which keeps them finite."""


_NO_IDS = np.empty(0, np.int32)


class History:
    """The tokens of one sequence, each once, and how often each was generated."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._ids = np.zeros(64, np.int64)
        self._counts = np.zeros(64, np.float32)

    @property
    def ids(self) -> NDArray[np.int64]:
        """[n], in the order in which they first came."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """[n]: how often each was generated; 0 for those that are in the prompt only."""
        return self._counts[: len(self._places)]

    def read(self, token_ids: Iterable[int]) -> None:
        """Tokens of the prompt."""
        for token_id in token_ids:
            self._place(int(token_id))

    def add(self, token_id: int) -> None:
        """A token that was generated."""
        place = self._place(token_id)  # first: it may replace the array
        self._counts[place] += 1

    def _place(self, token_id: int) -> int:
        place = self._places.setdefault(token_id, len(self._places))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[place] = token_id
        return place


class LogitRule(Protocol):
    """Changes logits in place, and only those of tokens that it knows of: never a pass over the vocabulary."""

    def known(self, history: History) -> NDArray[np.int64]:
        """Distinct ids."""
        ...

    def apply(self, logits: NDArray[np.float32], history: History) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class LogitBias:
    """Adds `biases` to the logits of `ids`."""

    ids: NDArray[np.int64]
    biases: NDArray[np.float32]

    def known(self, history: History) -> NDArray[np.int64]:  # noqa: ARG002  the protocol's signature
        return self.ids

    def apply(self, logits: NDArray[np.float32], history: History) -> None:  # noqa: ARG002  the protocol's signature
        logits[self.ids] += self.biases


@dataclass(frozen=True, slots=True)
class RepetitionPenalty:
    """Makes every token of prompt and text less likely, however often it came (Keskar et al. 2019, arXiv:1909.05858)."""

    penalty: float

    def known(self, history: History) -> NDArray[np.int64]:
        return history.ids

    def apply(self, logits: NDArray[np.float32], history: History) -> None:
        seen = logits[history.ids]
        logits[history.ids] = np.where(seen > 0, seen / self.penalty, seen * self.penalty)


@dataclass(frozen=True, slots=True)
class OccurrencePenalty:
    """Takes `frequency` for each time that a token was generated, and `presence` once; OpenAI's two penalties."""

    frequency: float
    presence: float

    def known(self, history: History) -> NDArray[np.int64]:
        return history.ids[history.counts > 0]

    def apply(self, logits: NDArray[np.float32], history: History) -> None:
        logits[self.known(history)] -= self.frequency * history.counts[history.counts > 0] + self.presence


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Tokens that may come next.

    Attributes:
        ids: Distinct, [n].
        weights: Their probabilities times one common factor, which makes the greatest 1; [n].
    """

    ids: NDArray[np.integer]
    weights: NDArray[np.float64]

    def only(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> Candidates:
        """Those at the chosen places."""
        return Candidates(self.ids[chosen], self.weights[chosen])

    def draw(self, random: Random) -> int:
        """One of them, by its weight."""
        # A double below 1 times a sum of at least 1 rounds to less than the sum: never past the end, or on a weight of 0.
        sums = self.weights.cumsum()
        return int(self.ids[sums.searchsorted(random.random() * sums[-1], side="right")])


class Filter(Protocol):
    """Leaves out some of the candidates, never all."""

    def keep(self, candidates: Candidates) -> Candidates: ...


@dataclass(frozen=True, slots=True)
class TopP:
    """Keeps the fewest of the likeliest tokens that together have probability `p` (Holtzman et al. 2020, arXiv:1904.09751)."""

    p: float

    def keep(self, candidates: Candidates) -> Candidates:
        weights = candidates.weights
        total = weights.sum()
        if len(weights) > _MOST_SORTED_IN:
            # Tokens below this share of 1 - p have less than 1 - p together: what is left still reaches p.
            candidates = candidates.only(weights >= (1 - self.p) * total / len(weights))
        candidates = candidates.only(np.argsort(-candidates.weights, kind="stable"))
        n_kept = candidates.weights.cumsum().searchsorted(self.p * total) + 1
        return Candidates(candidates.ids[:n_kept], candidates.weights[:n_kept])


@dataclass(frozen=True, slots=True)
class MinP:
    """Keeps tokens at least `p` times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""

    p: float

    def keep(self, candidates: Candidates) -> Candidates:
        return candidates.only(candidates.weights >= self.p)


class Method(Protocol):
    """Picks one of the tokens; the `k` greatest logits are enough for that, unless k is 0."""

    @property
    def k(self) -> int: ...

    def choose(self, logits: NDArray[np.float32], random: Random) -> int: ...

    def choose_among(self, ids: NDArray[np.int32], values: NDArray[np.float32], random: Random) -> int:
        """The same, given the k greatest, greatest first."""
        ...


@dataclass(frozen=True, slots=True)
class Greedy:
    """The likeliest token, the lowest id among equals: temperature 0."""

    k: int = 1

    def choose(self, logits: NDArray[np.float32], random: Random) -> int:
        return self.choose_among(*top_k(logits, 1), random)

    def choose_among(self, ids: NDArray[np.int32], values: NDArray[np.float32], random: Random) -> int:  # noqa: ARG002  the protocol's signature
        _check_any_left(values[0])
        return int(ids[0])


@dataclass(frozen=True, slots=True)
class Draw:
    """A token by its probability at a temperature above 0, of the `k` likeliest (0: of all) that the filters leave."""

    temperature: float
    k: int
    filters: tuple[Filter, ...] = ()

    def choose(self, logits: NDArray[np.float32], random: Random) -> int:
        return self._drawn(self.candidates(logits), random)

    def choose_among(self, ids: NDArray[np.int32], values: NDArray[np.float32], random: Random) -> int:
        return self._drawn(self._weighted(ids, values, values[0]), random)

    def _drawn(self, candidates: Candidates, random: Random) -> int:
        for each in self.filters:
            candidates = each.keep(candidates)
        return candidates.draw(random)

    def candidates(self, logits: NDArray[np.float32]) -> Candidates:
        """Before the filters: the k greatest, greatest first; or all, by their ids."""
        if 0 < self.k < len(logits):
            ids, values = greatest(logits, self.k)
            return self._weighted(ids, values, values[0])
        return self._weighted(np.arange(len(logits), dtype=np.int32), logits, top_k(logits, 1)[1][0])

    def _weighted(self, ids: NDArray[np.int32], values: NDArray[np.float32], best: np.float32) -> Candidates:
        _check_any_left(best)
        weights = values.astype(np.float64)
        weights -= float(best)
        weights *= min(1 / self.temperature, _STEEPEST)
        return Candidates(ids, np.exp(weights, out=weights))


def greatest(logits: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """As the kernel's `top_k`, and fast for a large k too."""
    if k <= _MOST_SORTED_IN:
        return top_k(logits, k)
    top_k(logits, 1)  # finds what is not finite
    least = np.partition(logits, -k)[-k]
    above = np.flatnonzero(logits > least)
    ids = np.concatenate([above, np.flatnonzero(logits == least)[: k - len(above)]])
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    return ids.astype(np.int32), logits[ids]


def _check_any_left(best: np.float32) -> None:
    if best == -np.inf:
        raise ConfigError("logit_bias forbids every token. Leave at least one of them without -inf.")


class Sampler:
    """Chooses the tokens of one generation."""

    def __init__(self, sampling: Sampling, vocab_size: int) -> None:
        """`vocab_size`: no token from there on is chosen, even where the logits go on.

        Raises:
            ConfigError: `logit_bias` names a token that there is not.
        """
        self._vocab_size = vocab_size
        self._random = Random(sampling.seed)  # noqa: S311  reproducible on every platform is what is wanted
        self._rules = _rules(sampling, vocab_size)
        self._uses_history = not all(isinstance(rule, LogitBias) for rule in self._rules)
        self._method = _method(sampling)
        self._history = History()

    def read(self, prompt_ids: Iterable[int]) -> None:
        """Take note of the prompt, which `repetition_penalty` counts too."""
        if self._uses_history:
            self._history.read(token_id for token_id in prompt_ids if token_id < self._vocab_size)

    def wanted(self) -> Wanted | None:
        """What of the next logits is enough to choose by; None: all of them."""
        also = self._known_ids()
        k = self._method.k
        if not 0 < k <= _MOST_WANTED or len(also) > _MOST_KNOWN or k + len(also) > self._vocab_size:
            return None
        return Wanted(k, self._vocab_size, also)

    def choose(self, logits: NDArray[np.float32] | BestLogits) -> int:
        """The next token.

        Args:
            logits: [at least vocab_size], overwritten; or what `wanted` said.

        Raises:
            ModelFormatError: A logit is not finite.
        """
        if isinstance(logits, BestLogits):
            token_id = self._method.choose_among(*self._ruled(logits), self._random)
        else:
            logits = logits[: self._vocab_size]
            for rule in self._rules:
                rule.apply(logits, self._history)
            token_id = self._method.choose(logits, self._random)
        if self._uses_history:
            self._history.add(token_id)
        return token_id

    def _known_ids(self) -> NDArray[np.int32]:
        """The tokens that rules may change, in order."""
        if not self._rules:
            return _NO_IDS
        return np.unique(np.concatenate([rule.known(self._history) for rule in self._rules])).astype(np.int32)

    def _ruled(self, best: BestLogits) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k greatest once rules have changed those that they know of."""
        if not len(best.also):
            return best.ids, best.values
        logits = np.empty(self._vocab_size, np.float32)  # of which only a few pages are touched
        logits[best.also] = best.also_values
        for rule in self._rules:
            rule.apply(logits, self._history)
        ids = np.concatenate([best.ids, best.also])
        ids.sort()  # equal ones go by lower id
        logits[best.ids] = best.values
        places, values = greatest(logits[ids], self._method.k)
        return ids[places], values


def _rules(sampling: Sampling, vocab_size: int) -> list[LogitRule]:
    """Those that change anything."""
    rules: list[LogitRule] = []
    if bias := sampling.logit_bias:
        if (wrong := max(bias)) >= vocab_size:
            raise ConfigError(f"logit_bias has token {wrong}, but this model's tokens are 0 to {vocab_size - 1}.")
        rules.append(LogitBias(np.fromiter(bias, np.int64), np.fromiter(bias.values(), np.float32)))
    if sampling.repetition_penalty != 1:
        rules.append(RepetitionPenalty(sampling.repetition_penalty))
    if sampling.frequency_penalty or sampling.presence_penalty:
        rules.append(OccurrencePenalty(sampling.frequency_penalty, sampling.presence_penalty))
    return rules


def _method(sampling: Sampling) -> Method:
    if sampling.temperature == 0 or sampling.top_k == 1:
        return Greedy()
    filters: list[Filter] = []
    if sampling.top_p < 1:
        filters.append(TopP(sampling.top_p))
    if sampling.min_p > 0:
        filters.append(MinP(sampling.min_p))
    return Draw(sampling.temperature, sampling.top_k, tuple(filters))


def log_probabilities(logits: NDArray[np.float32], token_id: int, n_best: int) -> tuple[float, list[tuple[int, float]]]:
    """The model's own log-probability of a token, and the `n_best` likeliest tokens with theirs, likeliest first.

    Of all tokens at temperature 1, before bias and penalties: `logits` are as the model gave them, without rows that are no
    tokens.
    """
    ids, values = greatest(logits, min(max(n_best, 1), len(logits)))
    best = values[0]
    logsumexp = float(best) + float(np.log(np.exp(logits - best).sum(dtype=np.float64)))
    ranked = [(int(i), float(v) - logsumexp) for i, v in zip(ids[:n_best], values[:n_best], strict=True)]
    return float(logits[token_id]) - logsumexp, ranked
