"""The next token: each method against a plain reference, and what all of them promise."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import best_of

from mogemma.config import SamplingConfig, resolve_sampling
from mogemma.errors import ConfigError, ModelFormatError
from mogemma.sampling import Candidates, Draw, Filter, History, MinP, Sampler, TopP, greatest, log_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NOTHING = SamplingConfig()

# Many ties, and -inf as a bias leaves it.
logits_of = st.lists(
    st.one_of(st.floats(-20, 20, width=32), st.integers(-2, 2), st.just(-math.inf)), min_size=1, max_size=80
)
finite_logits = logits_of.filter(lambda logits: max(logits) > -math.inf).map(
    lambda logits: np.array(logits, np.float32)
)


def make_sampler(n: int, **options: Any) -> Sampler:
    return Sampler(resolve_sampling({"seed": 0} | options, NOTHING, NOTHING), n)


def noise(n: int, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(n) * 4).astype(np.float32)


def reference(
    logits: Sequence[float], *, temperature: float, top_k: int, top_p: float, min_p: float
) -> dict[int, float]:
    """Probabilities of the tokens that may be drawn, in plain Python."""
    ranked = sorted(range(len(logits)), key=lambda i: -logits[i])[: top_k or None]
    best = logits[ranked[0]]

    def shares(ids: Sequence[int]) -> dict[int, float]:
        weights = {i: math.exp((logits[i] - best) / temperature) for i in ids}
        return {i: weight / sum(weights.values()) for i, weight in weights.items()}

    nucleus: list[int] = []
    reached = 0.0
    for i, share in shares(ranked).items():
        nucleus.append(i)
        reached += share
        if top_p < 1 and reached >= top_p:
            break
    kept = shares(nucleus)
    return shares([i for i in nucleus if kept[i] >= min_p * max(kept.values())])


class TestGreedy:
    @given(finite_logits)
    def test_temperature_0_takes_the_greatest_logit_and_the_lowest_id_among_equals(
        self, logits: NDArray[np.float32]
    ) -> None:
        assert make_sampler(len(logits), temperature=0).choose(logits.copy()) == int(np.argmax(logits))

    def test_a_tie_at_the_top_goes_to_the_lowest_id_wherever_it_lies(self) -> None:
        logits = np.zeros(1000, np.float32)
        logits[[700, 30, 999]] = 5
        assert make_sampler(1000, temperature=0).choose(logits) == 30

    @pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-12}, {"min_p": 1.0}, {"temperature": 1e-300}])
    def test_any_setting_that_leaves_one_token_is_greedy(self, options: dict[str, Any]) -> None:
        for seed in range(20):
            logits = noise(500, seed)
            assert make_sampler(500, **options).choose(logits.copy()) == int(np.argmax(logits))


class TestDraw:
    @given(
        logits=finite_logits,
        temperature=st.floats(0.05, 5),
        k=st.integers(0, 90),
        p=st.sampled_from([0.0625, 0.3, 0.5, 0.9, 0.95, 0.999, 1.0]),
        min_p=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
    )
    def test_candidates_are_those_of_the_plain_reference(
        self, logits: NDArray[np.float32], temperature: float, k: int, p: float, min_p: float
    ) -> None:
        """Temperature first, then top_k, then top_p among what is left, then min_p."""
        filters: list[Filter] = [*([TopP(p)] if p < 1 else []), *([MinP(min_p)] if min_p else [])]
        candidates = Draw(temperature, k).candidates(logits)
        for each in filters:
            candidates = each.keep(candidates)
        shares = dict(
            zip(candidates.ids.tolist(), (candidates.weights / candidates.weights.sum()).tolist(), strict=True)
        )
        wanted = reference(logits.astype(float).tolist(), temperature=temperature, top_k=k, top_p=p, min_p=min_p)
        # A sum may reach top_p one token sooner or later by rounding: then that token is the least likely one.
        for i in shares.keys() ^ wanted.keys():
            assert math.isclose((shares | wanted)[i], min((shares | wanted).values()), rel_tol=1e-9, abs_tol=1e-12)
        if shares.keys() == wanted.keys():
            assert all(math.isclose(shares[i], wanted[i], rel_tol=1e-9, abs_tol=1e-300) for i in wanted)

    @given(logits=finite_logits, k=st.integers(1, 90))
    def test_top_k_keeps_exactly_k_with_lower_ids_first_among_equals(self, logits: NDArray[np.float32], k: int) -> None:
        kept = Draw(1.0, k).candidates(logits).ids.tolist()
        best = sorted(range(len(logits)), key=lambda i: -logits[i])[:k]
        assert sorted(kept) == sorted(best)

    @pytest.mark.parametrize("k", [1, 2, 255, 256, 257, 300, 1999, 2000])
    def test_a_large_k_is_ranked_as_the_kernel_ranks_a_small_one(self, k: int) -> None:
        logits = noise(2000).round()  # many ties
        ids, values = greatest(logits, k)
        assert ids.tolist() == sorted(range(2000), key=lambda i: -logits[i])[:k]
        assert values.tolist() == logits[ids].tolist()

    @pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 10.0])
    @pytest.mark.parametrize("p", [0.05, 0.5, 0.95, 0.999999])
    def test_top_p_over_a_whole_vocabulary_keeps_the_fewest_that_reach_it(self, p: float, scale: float) -> None:
        """Where most tokens are dropped before any is sorted, the result is that of sorting them all."""
        logits = noise(20_000) * np.float32(scale)
        kept = TopP(p).keep(Draw(1.0, 0).candidates(logits))
        shares = np.exp(logits.astype(float))
        shares /= shares.sum()
        ranked = np.argsort(-logits, kind="stable")
        n = int(np.searchsorted(np.cumsum(shares[ranked]), p)) + 1
        assert abs(len(kept.ids) - n) <= (1 if scale else 0) or math.isclose(shares[kept.ids].sum(), p, rel_tol=1e-9)
        assert set(kept.ids.tolist()) == set(ranked[: len(kept.ids)].tolist())

    def test_tokens_are_drawn_as_often_as_their_probability_says(self) -> None:
        logits = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))
        sampler = make_sampler(4, top_p=1.0)
        drawn = Counter(sampler.choose(logits.copy()) for _ in range(8000))
        for i, share in enumerate([0.5, 0.25, 0.125, 0.125]):
            assert abs(drawn[i] / 8000 - share) < 0.02

    @pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
    @given(weights=st.lists(st.one_of(st.just(0.0), st.floats(0, 1)), max_size=50), place=st.integers(0, 50))
    def test_a_weight_of_0_is_never_drawn(self, draw: float, weights: list[float], place: int) -> None:
        weights.insert(place, 1.0)

        class Fixed(Random):
            def random(self) -> float:
                return draw

        ids = np.arange(len(weights))
        assert weights[Candidates(ids, np.array(weights)).draw(Fixed())] > 0

    def test_a_seed_gives_the_same_tokens_again_and_another_seed_others(self) -> None:
        def tokens(seed: int) -> list[int]:
            sampler = make_sampler(1000, seed=seed)
            return [sampler.choose(noise(1000, step)) for step in range(30)]

        assert tokens(1) == tokens(1)
        assert tokens(1) != tokens(2)
        assert tokens(2**64 - 1) == tokens(2**64 - 1)

    def test_the_random_numbers_of_a_seed_are_the_same_everywhere(self) -> None:
        """Python promises this sequence for all versions and platforms; a stored choice shows that we stay with it."""
        sampler = make_sampler(8, seed=42, top_p=1.0)
        assert [sampler.choose(np.zeros(8, np.float32)) for _ in range(12)] == [5, 0, 2, 1, 5, 5, 7, 0, 3, 0, 1, 4]

    @pytest.mark.parametrize("temperature", [1e-320, 1e-30, 1e30, 1e308])
    @pytest.mark.parametrize("k", [0, 3])
    def test_extreme_temperatures_draw_one_of_the_tokens(self, temperature: float, k: int) -> None:
        logits = np.array([3e38, -3e38, 0, -np.inf, 3e38], np.float32)
        assert make_sampler(5, temperature=temperature, top_k=k).choose(logits) in {0, 1, 2, 4}


class TestRules:
    def test_a_bias_moves_its_tokens_and_no_others(self) -> None:
        logits = noise(50)
        biased = logits.copy()
        make_sampler(50, temperature=0, logit_bias={3: 100, 7: -5.5}).choose(biased)
        changed = biased - logits
        assert np.flatnonzero(changed).tolist() == [3, 7]
        np.testing.assert_allclose(changed[[3, 7]], [100, -5.5], rtol=1e-5)

    def test_a_forbidden_token_is_never_chosen(self) -> None:
        sampler = make_sampler(3, logit_bias={1: -math.inf}, top_p=1.0)
        assert {sampler.choose(np.array([0, 50, 0], np.float32)) for _ in range(50)} == {0, 2}

    @pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 2}, {"top_k": 0}])
    def test_forbidding_every_token_is_an_error(self, options: dict[str, Any]) -> None:
        sampler = make_sampler(3, logit_bias=dict.fromkeys(range(3), -math.inf), **options)
        with pytest.raises(ConfigError, match="forbids every token"):
            sampler.choose(np.zeros(3, np.float32))

    def test_a_bias_for_a_token_that_there_is_not_is_an_error_before_anything_runs(self) -> None:
        with pytest.raises(ConfigError, match="logit_bias has token 9, but this model's tokens are 0 to 7"):
            make_sampler(8, logit_bias={3: 1.0, 9: 1.0})

    def test_repetition_penalty_counts_prompt_and_text_alike_and_once(self) -> None:
        sampler = make_sampler(5, temperature=0, repetition_penalty=2.0)
        sampler.read([0, 0, 1])
        first = np.array([8, -8, 6, 1, 1], np.float32)
        assert sampler.choose(first) == 2
        assert first.tolist() == [4, -16, 6, 1, 1]
        second = np.array([8, -8, 6, 1, 1], np.float32)
        assert sampler.choose(second) == 0
        assert second.tolist() == [4, -16, 3, 1, 1]

    def test_frequency_and_presence_penalties_count_the_text_only(self) -> None:
        sampler = make_sampler(3, temperature=0, frequency_penalty=0.5, presence_penalty=1.0)
        sampler.read([1, 1, 1])
        seen = []
        for _ in range(3):
            logits = np.array([5, 4, 0], np.float32)
            seen.append((sampler.choose(logits), logits.tolist()))
        assert seen == [(0, [5, 4, 0]), (1, [3.5, 4, 0]), (0, [3.5, 2.5, 0])]

    @given(
        prompt=st.lists(st.integers(0, 199), max_size=150),
        options=st.fixed_dictionaries(
            {
                "repetition_penalty": st.sampled_from([0.5, 1.0, 1.3]),
                "frequency_penalty": st.sampled_from([0.0, 0.3, -0.5]),
                "presence_penalty": st.sampled_from([0.0, 0.7]),
                "logit_bias": st.dictionaries(st.integers(0, 199), st.floats(-5, 5, width=32), max_size=3),
            }
        ),
    )
    def test_rules_together_are_those_of_a_pass_over_the_vocabulary(
        self, prompt: list[int], options: dict[str, Any]
    ) -> None:
        """Bias, then repetition, then frequency and presence, however many tokens have been seen."""
        sampler = make_sampler(200, temperature=0, **options)
        sampler.read(prompt)
        said: list[int] = []
        for step in range(20):
            logits = noise(200, step)
            expected = logits.astype(float)
            for i in range(200):
                expected[i] += options["logit_bias"].get(i, 0)
                if i in prompt or i in said:
                    expected[i] *= options["repetition_penalty"] ** (-1 if expected[i] > 0 else 1)
                expected[i] -= options["frequency_penalty"] * said.count(i) + options["presence_penalty"] * (i in said)
            said.append(sampler.choose(logits))
            np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)

    def test_prompt_tokens_past_the_vocabulary_that_can_be_chosen_do_no_harm(self) -> None:
        """Such as the tokens of an image, which a model has rows for and a tokenizer no text."""
        sampler = make_sampler(4, temperature=0, repetition_penalty=2.0)
        sampler.read(np.array([1, 5, 6]))
        assert sampler.choose(np.array([1, 3, 2, 0, 9, 9, 9], np.float32)) == 2

    def test_history_keeps_each_token_once_with_its_count(self) -> None:
        history = History()
        history.read(range(0, 320, 5))  # fills the room there is at first
        for token_id in [5, 3, 5, 2000]:
            history.add(token_id)
        counts = dict(zip(history.ids.tolist(), history.counts.tolist(), strict=True))
        assert len(counts) == 66
        assert {i: n for i, n in counts.items() if n} == {5: 2, 3: 1, 2000: 1}


class TestWanted:
    @given(
        prompt=st.lists(st.integers(0, 199), max_size=30),
        options=st.fixed_dictionaries(
            {
                "temperature": st.sampled_from([0.0, 0.7, 3.0]),
                "top_k": st.sampled_from([1, 2, 40]),
                "top_p": st.sampled_from([0.5, 1.0]),
                "repetition_penalty": st.sampled_from([0.5, 1.0, 1.3]),
                "frequency_penalty": st.sampled_from([0.0, 0.3, -0.5]),
                "logit_bias": st.dictionaries(
                    st.integers(0, 199), st.one_of(st.integers(-5, 5).map(float), st.just(-math.inf)), max_size=5
                ),
            }
        ),
    )
    def test_what_is_wanted_of_the_logits_leads_to_the_token_that_all_lead_to(
        self, prompt: list[int], options: dict[str, Any]
    ) -> None:
        """Though rules move tokens into the greatest and out of them; there are many ties, and rows past the vocabulary."""
        samplers = [make_sampler(200, **options) for _ in range(2)]
        for sampler in samplers:
            sampler.read(prompt)
        for step in range(20):
            logits = noise(210, step).round()
            wanted = samplers[1].wanted()
            assert wanted is not None
            assert samplers[1].choose(best_of(logits, wanted)) == samplers[0].choose(logits.copy())

    @pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": 513}, {"top_k": 990, "logit_bias": {1: 1.0}}])
    def test_all_logits_are_wanted_where_few_are_not_enough_or_few_are_many(self, options: dict[str, Any]) -> None:
        assert make_sampler(1000, **options).wanted() is None

    def test_all_logits_are_wanted_where_rules_know_of_most_tokens(self) -> None:
        sampler = make_sampler(10_000, repetition_penalty=1.1)
        sampler.read(range(2048))
        assert sampler.wanted() is not None
        sampler.read([2048])
        assert sampler.wanted() is None

    @pytest.mark.parametrize(
        ("options", "known"),
        [
            ({}, []),
            ({"logit_bias": {30: 1.0, 7: -math.inf}}, [7, 30]),
            ({"frequency_penalty": 0.1}, [40]),
            ({"presence_penalty": 0.1, "logit_bias": {7: 1.0}}, [7, 40]),
            ({"repetition_penalty": 1.1, "logit_bias": {7: 1.0}}, [5, 7, 40]),
        ],
        ids=str,
    )
    def test_only_tokens_that_a_rule_changes_are_wanted_in_any_case(
        self, options: dict[str, Any], known: list[int]
    ) -> None:
        """A bias knows of its own; two of the penalties not of what only the prompt has: or the head is read for a long one."""
        sampler = make_sampler(100, temperature=0, **options)
        sampler.read([5, 5])
        logits = np.zeros(100, np.float32)
        logits[40] = 9
        assert sampler.choose(logits) == 40
        wanted = sampler.wanted()
        assert wanted is not None
        assert wanted.also.tolist() == known

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_known_token_whose_logit_is_not_finite_is_an_error(self, bad: float) -> None:
        sampler = make_sampler(100, logit_bias={3: 1.0})
        wanted = sampler.wanted()
        assert wanted is not None
        best = best_of(noise(100), wanted)
        best.also_values[0] = bad
        with pytest.raises(ModelFormatError, match="damaged"):
            sampler.choose(best)


class TestLogits:
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize(
        "options", [{"temperature": 0}, {}, {"top_k": 300}, {"top_k": 0}, {"top_k": 0, "top_p": 1.0}]
    )
    @pytest.mark.parametrize("place", [0, 999])
    def test_logits_that_are_not_finite_are_an_error(self, options: dict[str, Any], bad: float, place: int) -> None:
        logits = noise(1000)
        logits[place] = bad
        with pytest.raises(ModelFormatError, match="damaged"):
            make_sampler(1000, **options).choose(logits)

    def test_rows_past_the_vocabulary_are_never_chosen(self) -> None:
        """A model may have more rows than its tokenizer has pieces."""
        logits = np.array([0, 1, 99], np.float32)
        assert make_sampler(2, temperature=0).choose(logits) == 1


class TestLogProbabilities:
    @given(finite_logits, st.integers(0, 10))
    def test_they_are_the_log_softmax_of_the_logits(self, logits: NDArray[np.float32], n_best: int) -> None:
        expected = logits.astype(float)
        expected -= expected.max() + math.log(np.exp(expected - expected.max()).sum())
        chosen = len(logits) // 2
        logprob, best = log_probabilities(logits, chosen, n_best)
        assert math.isclose(logprob, expected[chosen], rel_tol=1e-5, abs_tol=1e-5)
        ranked = sorted(range(len(logits)), key=lambda i: -logits[i])[:n_best]
        assert [i for i, _ in best] == ranked
        np.testing.assert_allclose([value for _, value in best], expected[ranked], rtol=1e-5, atol=1e-5)
