"""The models that have a short name: where they come from, under which licence, and how much there is to download.

The source is Google's own repository, or that of ggml-org, who make llama.cpp, where it has the model in GGUF: smaller by
half or more, and open to who has no account. The exception is EmbeddingGemma 300M, whose GGUF there was made without its
dense heads (ggml-org/llama.cpp#18677). No file is named, because conversions come and go: `files.py` chooses among those
that are there. Sizes are those of the files so chosen, in November 2026.
"""

from __future__ import annotations

from typing import NamedTuple


class Licence(NamedTuple):
    name: str
    url: str


GEMMA_TERMS = Licence("Gemma Terms of Use", "https://ai.google.dev/gemma/terms")
APACHE = Licence("Apache-2.0", "https://ai.google.dev/gemma/apache_2")


class KnownModel(NamedTuple):
    """One row of the table.

    Attributes:
        repo_id: Whose files they are, and what the hub calls them.
        n_bytes: About how much is downloaded.
        licence: Of the weights.
        is_gated: The hub gives the files only to accounts that have accepted the licence there.
    """

    repo_id: str
    n_bytes: int
    licence: Licence
    is_gated: bool = False


KNOWN: dict[str, KnownModel] = {
    "gemma-2b-it": KnownModel("google/gemma-2b-it", 5_030_000_000, GEMMA_TERMS, is_gated=True),
    "gemma-7b-it": KnownModel("google/gemma-7b-it", 17_100_000_000, GEMMA_TERMS, is_gated=True),
    "gemma-2-2b-it": KnownModel("google/gemma-2-2b-it", 5_250_000_000, GEMMA_TERMS, is_gated=True),
    "gemma-2-9b-it": KnownModel("google/gemma-2-9b-it", 18_500_000_000, GEMMA_TERMS, is_gated=True),
    "gemma-2-27b-it": KnownModel("google/gemma-2-27b-it", 54_500_000_000, GEMMA_TERMS, is_gated=True),
    "gemma-3-270m": KnownModel("ggml-org/gemma-3-270m-GGUF", 292_000_000, GEMMA_TERMS),
    "gemma-3-270m-it": KnownModel("ggml-org/gemma-3-270m-it-GGUF", 292_000_000, GEMMA_TERMS),
    "gemma-3-1b-it": KnownModel("ggml-org/gemma-3-1b-it-GGUF", 806_000_000, GEMMA_TERMS),
    "gemma-3-4b-it": KnownModel("ggml-org/gemma-3-4b-it-GGUF", 2_490_000_000, GEMMA_TERMS),
    "gemma-3-12b-it": KnownModel("ggml-org/gemma-3-12b-it-GGUF", 7_300_000_000, GEMMA_TERMS),
    "gemma-3-27b-it": KnownModel("ggml-org/gemma-3-27b-it-GGUF", 16_500_000_000, GEMMA_TERMS),
    "gemma-3n-e2b-it": KnownModel("ggml-org/gemma-3n-E2B-it-GGUF", 4_790_000_000, GEMMA_TERMS),
    "gemma-3n-e4b-it": KnownModel("ggml-org/gemma-3n-E4B-it-GGUF", 7_350_000_000, GEMMA_TERMS),
    "gemma-4-e2b-it": KnownModel("ggml-org/gemma-4-E2B-it-GGUF", 2_840_000_000, APACHE),
    "gemma-4-e4b-it": KnownModel("ggml-org/gemma-4-E4B-it-GGUF", 4_600_000_000, APACHE),
    "gemma-4-12b-it": KnownModel("ggml-org/gemma-4-12B-it-GGUF", 6_980_000_000, APACHE),
    "gemma-4-26b-a4b-it": KnownModel("ggml-org/gemma-4-26B-A4B-it-GGUF", 14_600_000_000, APACHE),
    "gemma-4-31b-it": KnownModel("ggml-org/gemma-4-31B-it-GGUF", 18_000_000_000, APACHE),
    "embeddinggemma-300m": KnownModel("google/embeddinggemma-300m", 1_270_000_000, GEMMA_TERMS, is_gated=True),
    "embeddinggemma-2": KnownModel("google/embeddinggemma-2", 1_530_000_000, APACHE),
}

GENERATOR = "gemma-3-270m-it"
"""What writes when no model is named."""

EMBEDDER = "embeddinggemma-300m"
"""What embeds when no model is named."""

STAND_INS = {GENERATOR: "gemma-3-270m"}
"""What may take a default's place where the hub is out of reach: it is in the model folder of who ran tools/fetch_models.py."""


def known_as(repo_id: str) -> str | None:
    """The short name of a repository."""
    return next((name for name, model in KNOWN.items() if model.repo_id.lower() == repo_id.lower()), None)


def licence_of(repo_id: str) -> Licence | None:
    """The licence of a repository's weights, where its name says which Gemma it is; None for what is not in the table.

    Google's originals are known by the model that was made from them: google/gemma-3-1b-it by gemma-3-1b-it.
    """
    owner, _, name = repo_id.lower().partition("/")
    alias = known_as(repo_id) or (name if owner == "google" else "")
    return KNOWN[alias].licence if alias in KNOWN else None


def licence_of_family(family: str) -> Licence:
    """The licence of a Gemma by its family, which holds for what others have made of it too."""
    return APACHE if family.startswith(("gemma4", "embeddinggemma2")) else GEMMA_TERMS
