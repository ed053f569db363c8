"""The table of known models is sound, and what is asked of it is answered."""

from __future__ import annotations

import re

import pytest

from mogemma.hub.known import (
    APACHE,
    EMBEDDER,
    GEMMA_TERMS,
    GENERATOR,
    KNOWN,
    STAND_INS,
    known_as,
    licence_of,
    licence_of_family,
)
from mogemma.hub.source import HubSource, read_source


@pytest.mark.parametrize("name", KNOWN)
def test_every_row_is_a_source_with_a_licence_and_a_size(name: str) -> None:
    model = KNOWN[name]
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert read_source(name) == read_source(model.repo_id) == HubSource(model.repo_id)
    assert known_as(model.repo_id) == name
    assert model.licence in {GEMMA_TERMS, APACHE}
    assert 10**8 < model.n_bytes < 10**11


def test_the_originals_of_generations_before_the_fourth_are_gated_and_others_are_not() -> None:
    gated = {name for name, model in KNOWN.items() if model.is_gated}
    assert gated == {
        name for name, model in KNOWN.items() if model.repo_id.startswith("google/") and model.licence == GEMMA_TERMS
    }


def test_the_defaults_and_their_stand_ins_are_known() -> None:
    assert {GENERATOR, EMBEDDER, *STAND_INS, *STAND_INS.values()} <= set(KNOWN)


@pytest.mark.parametrize(
    ("repo_id", "licence"),
    [
        ("ggml-org/gemma-3-1b-it-GGUF", GEMMA_TERMS),
        ("google/gemma-3-1b-it", GEMMA_TERMS),
        ("google/gemma-4-E2B-it", APACHE),
        ("google/embeddinggemma-2", APACHE),
        ("google/t5", None),
        ("somebody/gemma-3-1b-it", None),
    ],
)
def test_the_licence_of_a_repository_is_that_of_its_gemma(repo_id: str, licence: object) -> None:
    assert licence_of(repo_id) == licence


def test_the_licence_of_a_family_holds_for_what_others_made_of_it() -> None:
    assert licence_of_family("gemma3") == licence_of_family("embeddinggemma") == GEMMA_TERMS
    assert licence_of_family("gemma4") == APACHE
