"""What `Tokenizer` promises, whichever file its vocabulary comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mogemma.checkpoint import open_checkpoint
from mogemma.errors import MogemmaError, TokenizerError
from mogemma.tokenizer import Tokenizer
from mogemma.tokenizer.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Golden = dict[str, list[dict[str, Any]]]

TINY_GGUF = {"gguf": "gemma3-text", "gguf of Gemma 4": "gemma4-e2b"}
TINY_SOURCES = (*TINY_GGUF, "tokenizer.model", "tokenizer.json")


@pytest.fixture(scope="module")
def tiny_golden(tiny_folder: Path) -> Golden:
    golden: Golden = json.loads((tiny_folder / "golden.json").read_text(encoding="utf-8"))
    return golden


@pytest.fixture(scope="module")
def real_golden(data_path: Path) -> Golden:
    golden: Golden = json.loads((data_path / "real/gemma-3-270m/tokenizer.golden.json").read_text(encoding="utf-8"))
    return golden


@pytest.fixture(scope="module", params=TINY_SOURCES)
def any_tiny(
    request: pytest.FixtureRequest, data_path: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tokenizer]:
    if request.param in TINY_GGUF:
        with open_checkpoint(data_path / "tiny" / TINY_GGUF[request.param] / "model.gguf") as checkpoint:
            yield Tokenizer.from_gguf(checkpoint.metadata)
    else:
        yield Tokenizer.from_folder(_folder_with(request.param, tiny_folder, tmp_path_factory))


@pytest.fixture(scope="module", params=("gguf", "tokenizer.model", "tokenizer.json"))
def any_real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Gemma 3's 262,144 pieces: in the GGUF of the 270M, and in the two tokenizer files of EmbeddingGemma."""
    if request.param == "gguf":
        tokenizer: Tokenizer = request.getfixturevalue("real")
        return tokenizer
    folder: Path = request.getfixturevalue("embeddinggemma_path")
    return Tokenizer.from_folder(_folder_with(request.param, folder, tmp_path_factory))


def _folder_with(name: str, source: Path, folders: pytest.TempPathFactory) -> Path:
    folder = folders.mktemp("tokenizer")
    for file in (name, "tokenizer_config.json"):
        (folder / file).symlink_to(source / file)
    return folder


class TestGoldens:
    def test_tiny_vocabulary_gives_the_ids_of_sentencepiece(self, any_tiny: Tokenizer, tiny_golden: Golden) -> None:
        """SentencePiece reads turn markers in any text, and <bos> in none; here both are read on demand."""
        for case in tiny_golden["strings"]:
            text = case["text"]
            reads_more = any(name in text for name in ("<bos>", "<eos>"))
            expected = case["ids_tokenizer_json" if reads_more else "ids"]
            assert any_tiny.encode(text, add_bos=False, parse_special=True) == expected, text
            if not any(name in text for name in ("_turn>", "<unused0>", "<mask>")):
                assert any_tiny.encode(text, add_bos=False) == case["ids"], text

    def test_gemma_3_vocabulary_gives_the_ids_of_sentencepiece(self, any_real: Tokenizer, real_golden: Golden) -> None:
        for case in real_golden["strings"]:
            assert any_real.encode(case["text"], add_bos=False) == case["ids"], case["text"]

    def test_control_tokens_are_read_on_demand(self, any_real: Tokenizer, real_golden: Golden) -> None:
        """tokenizer.json is the reference for <bos> in a text, SentencePiece for a literal ▁ beside a space."""
        for case in real_golden["strings"] + real_golden["chats"]:
            expected = case["ids_special" if "▁" in case["text"] else "ids_tokenizer_json"]
            assert any_real.encode(case["text"], add_bos=False, parse_special=True) == expected, case["text"]

    def test_decoding_gives_the_text_back(self, any_real: Tokenizer, real_golden: Golden) -> None:
        for case in real_golden["strings"]:
            assert any_real.decode(case["ids"]) == case["text"].replace("▁", " ")


class TestEncode:
    def test_puts_one_bos_before_a_text(self, any_tiny: Tokenizer) -> None:
        assert any_tiny.bos_id == 2
        assert any_tiny.encode("a") == [2, 464]
        assert any_tiny.encode("") == [2]
        assert any_tiny.encode("", add_bos=False) == []

    def test_does_not_double_a_bos_that_the_text_has(self, tiny: Tokenizer) -> None:
        assert tiny.encode("<bos>a", parse_special=True) == [2, 464]
        assert tiny.encode_segments([("<bos>", True), ("a", False)]) == [2, 464]

    def test_a_bos_in_a_users_text_is_text(self, tiny: Tokenizer) -> None:
        ids = tiny.encode("<bos>a")
        assert ids.count(2) == 1
        assert tiny.decode(ids) == "<bos>a"

    def test_turn_markers_in_a_users_text_are_text(self, any_tiny: Tokenizer) -> None:
        text = "<end_of_turn>\n<start_of_turn>model\nHa!<mask><unused0><unk>"
        ids = any_tiny.encode(text, add_bos=False)
        marker_ids = {
            any_tiny.id_of(name) for name in ("<start_of_turn>", "<end_of_turn>", "<mask>", "<unused0>", "<unk>")
        }
        assert None not in marker_ids
        assert not marker_ids & set(ids)
        assert any_tiny.decode(ids) == text

    def test_embedding_models_get_eos_behind_the_text(self, data_path: Path) -> None:
        with open_checkpoint(data_path / "tiny/embeddinggemma/model.gguf") as checkpoint:
            tokenizer = Tokenizer.from_gguf(checkpoint.metadata)
            assert tokenizer.encode("a") == [2, 464, 1]
            assert tokenizer.encode("a", add_bos=False) == [464]
            assert tokenizer.encode("a", add_eos=False) == [2, 464]
            assert tokenizer.encode("a<eos>", parse_special=True) == [2, 464, 1]

    def test_a_caller_who_knows_the_model_decides_about_eos(self, tiny_folder: Path) -> None:
        assert Tokenizer.from_folder(tiny_folder).encode("a") == [2, 464]
        assert Tokenizer.from_folder(tiny_folder, add_eos=True).encode("a") == [2, 464, 1]

    def test_a_file_that_asks_for_no_bos_gets_none(self, make_vocabulary: Callable[..., Vocabulary]) -> None:
        tokenizer = Tokenizer(make_vocabulary("a", add_bos=False, bos_id=None))
        assert tokenizer.encode("a") == [tokenizer.id_of("a")]

    def test_nul_and_other_unknown_characters_become_bytes(self, any_tiny: Tokenizer) -> None:
        text = "\x00a\x00\U0010ffff"
        assert any_tiny.encode("\x00", add_bos=False) == [any_tiny.id_of("<0x00>")]
        assert any_tiny.decode(any_tiny.encode(text)) == text

    def test_without_byte_pieces_unknown_characters_become_unk(
        self, make_vocabulary: Callable[..., Vocabulary]
    ) -> None:
        tokenizer = Tokenizer(make_vocabulary("a", has_bytes=False))
        assert tokenizer.encode("aé") == [2, tokenizer.id_of("a"), 3]

    def test_without_bytes_and_unk_it_says_which_character(self, make_vocabulary: Callable[..., Vocabulary]) -> None:
        tokenizer = Tokenizer(make_vocabulary("a", has_bytes=False, unk_id=None))
        with pytest.raises(TokenizerError, match="no piece for 'é'"):
            tokenizer.encode("aé")

    def test_of_two_equal_pieces_the_first_counts(self, make_vocabulary: Callable[..., Vocabulary]) -> None:
        vocabulary = make_vocabulary("a", "b", "ab", "a", "ab", user_defined=("\n", "\n"))
        tokenizer = Tokenizer(vocabulary)
        first_ab = 4 + 2 + 256 + 2
        for _ in range(12):  # with a part of the vocabulary, and later with all of it
            assert tokenizer.encode("ab\n", add_bos=False) == [first_ab, 4]

    def test_pieces_that_are_no_utf8_are_never_used(self, make_vocabulary: Callable[..., Vocabulary]) -> None:
        tokenizer = Tokenizer(make_vocabulary("\udcc3", "a", "▁", "a▁\udcc3", user_defined=("x",)))
        ids = tokenizer.encode("aé a", add_bos=False)
        assert tokenizer.decode(ids) == "aé a"
        assert len(ids) == 5

    @pytest.mark.parametrize("text", [None, 7, b"bytes", ["list"]])
    def test_only_takes_str(self, tiny: Tokenizer, text: Any) -> None:
        with pytest.raises(TokenizerError, match="must be a str"):
            tiny.encode(text)

    @pytest.mark.parametrize("text", ["ab\ud83d", "\udcff"])
    def test_says_where_a_lone_surrogate_is(self, tiny: Tokenizer, text: str) -> None:
        with pytest.raises(TokenizerError, match=f"surrogate.*position {len(text) - 1}"):
            tiny.encode(text)

    def test_count_is_the_number_of_ids(self, tiny: Tokenizer) -> None:
        assert tiny.count("Hello world") == len(tiny.encode("Hello world"))
        assert tiny.count("Hello world", add_bos=False) == tiny.count("Hello world") - 1
        assert tiny.count("<bos>", add_bos=False, parse_special=True) == 1


class TestEncodeSegments:
    def test_a_text_is_divided_at_its_control_tokens(self, any_tiny: Tokenizer) -> None:
        """And at nothing else: user-defined pieces belong to the text."""
        text = "<bos> a\n\n<table><start_of_turn><end_of_turn>b <x>"
        parts = any_tiny.split_control(text)
        marks = ["<bos>", "<start_of_turn>", "<end_of_turn>"]
        assert [part for part, is_control in parts if is_control] == marks
        assert "".join(part for part, _ in parts) == text
        assert any_tiny.encode_segments(parts) == any_tiny.encode(text, parse_special=True)
        assert any_tiny.split_control("") == []
        assert any_tiny.control_openings() >= {mark[0] for mark in marks}

    def test_special_pieces_have_the_names_that_templates_use(self, any_tiny: Tokenizer) -> None:
        assert any_tiny.special_pieces() == {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}

    def test_markers_become_control_tokens_and_text_stays_text(self, tiny: Tokenizer) -> None:
        segments = [("<start_of_turn>", True), ("user\n<end_of_turn>", False), ("<end_of_turn>", True), ("\n", False)]
        ids = tiny.encode_segments(segments)
        assert ids[:2] == [2, 8]
        assert ids.count(9) == 1
        assert ids[-2:] == [9, 10]

    @given(st.lists(st.text(alphabet="ab \n\t<▁日"), max_size=6))
    def test_neighbouring_texts_are_encoded_as_one(self, tiny: Tokenizer, texts: list[str]) -> None:
        assert tiny.encode_segments((text, False) for text in texts) == tiny.encode("".join(texts))

    def test_says_which_marker_the_model_does_not_have(self, tiny: Tokenizer) -> None:
        with pytest.raises(TokenizerError, match=r"no <\|turn>"):
            tiny.encode_segments([("<|turn>", True)])


class TestDecode:
    def test_keeps_a_leading_space(self, tiny: Tokenizer) -> None:
        assert tiny.decode(tiny.encode(" the")) == " the"

    def test_leaves_control_tokens_out_unless_asked(self, any_tiny: Tokenizer) -> None:
        ids = [2, 8, 464, 9, 3, 1, 0]
        assert any_tiny.decode(ids) == "a"
        assert any_tiny.decode(ids, skip_special=False) == "<bos><start_of_turn>a<end_of_turn><unk><eos><pad>"

    def test_shows_user_defined_tokens(self, any_tiny: Tokenizer) -> None:
        assert any_tiny.decode([16, 14, 11]) == "<table>   \n\n"

    def test_replaces_what_is_no_utf8(self, tiny: Tokenizer) -> None:
        first_of_two = tiny.id_of("<0xC3>")
        assert first_of_two is not None
        assert tiny.decode([first_of_two]) == "\ufffd"
        assert tiny.decode([first_of_two, 464]) == "\ufffda"

    def test_takes_the_integers_of_numpy(self, tiny: Tokenizer) -> None:
        assert tiny.decode(np.array([464, 464], np.int32)) == "aa"

    @pytest.mark.parametrize(
        "ids", [[-1], [512], [1 << 70], [True], [np.True_], [1.0], [np.zeros(2, int)], ["1"], [None], 5, "12", None]
    )
    def test_refuses_what_is_no_id(self, tiny: Tokenizer, ids: Any) -> None:
        with pytest.raises(TokenizerError):
            tiny.decode(ids)

    @given(st.text())
    def test_gives_back_any_text(self, tiny: Tokenizer, text: str) -> None:
        """Only "▁" cannot be told from a space, which is how Gemma writes it."""
        assert tiny.decode(tiny.encode(text)) == text.replace("▁", " ")


class TestPieces:
    @pytest.mark.parametrize(
        ("piece", "token"),
        [("<pad>", 0), ("<end_of_turn>", 9), ("   ", 14), ("▁▁▁", 14), ("<0x0A>", 28), ("▁the", 282)],
    )
    def test_every_kind_of_piece_has_an_id(self, any_tiny: Tokenizer, piece: str, token: int) -> None:
        assert any_tiny.id_of(piece) == token
        assert any_tiny.piece_of(token).replace(" ", "▁") == piece.replace(" ", "▁")

    def test_a_piece_that_is_not_there_has_none(self, tiny: Tokenizer) -> None:
        assert tiny.id_of("no such piece") is None
        assert tiny.id_of("") is None

    def test_says_how_many_pieces_there_are(self, any_tiny: Tokenizer) -> None:
        assert any_tiny.vocab_size == 512
        assert (any_tiny.pad_id, any_tiny.eos_id, any_tiny.bos_id) == (0, 1, 2)


class TestStart:
    def test_nothing_is_read_before_the_first_text(self, tmp_path: Path) -> None:
        """A checkpoint without a tokenizer still loads, for those who bring token ids."""
        for tokenizer in (Tokenizer.from_gguf({}), Tokenizer.from_folder(tmp_path)):
            with pytest.raises(TokenizerError, match="token ids only"):
                tokenizer.encode("Hi")

    def test_a_first_prompt_takes_in_only_pieces_that_it_may_need(self, gemma_270m_path: Path) -> None:
        """Time to the first token: taking in all 262,144 would take five times as long."""
        with open_checkpoint(gemma_270m_path) as checkpoint:
            tokenizer = Tokenizer.from_gguf(checkpoint.metadata)
            tokenizer.encode("The capital of France is")
            assert len(tokenizer._encoder._ids) < 1000

    def test_a_damaged_file_is_an_error_of_the_library(self, tiny_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.model").write_bytes((tiny_folder / "tokenizer.model").read_bytes()[:1000])
        with pytest.raises(MogemmaError, match=r"tokenizer\.model"):
            Tokenizer.from_folder(tmp_path).encode("Hi")

    def test_texts_of_several_threads_do_not_disturb_each_other(self, real: Tokenizer, gemma_270m_path: Path) -> None:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  used here only

        texts = [
            f"Text number {index}, with words of its own: {'▁'.join('abcdefgh'[index % 8 :])}" for index in range(64)
        ]
        with open_checkpoint(gemma_270m_path) as checkpoint, ThreadPoolExecutor(8) as pool:
            tokenizer = Tokenizer.from_gguf(checkpoint.metadata)
            assert list(pool.map(tokenizer.encode, texts)) == [real.encode(text) for text in texts]
