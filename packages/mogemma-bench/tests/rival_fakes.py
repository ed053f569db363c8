"""Rivals that are none: a program that prints what llama-bench would, and Pythons that have a rival's package."""

from __future__ import annotations

import sys
from pathlib import Path

LLAMA_BENCH = """#!{python}
import json, sys, time
words = sys.argv[1:]
open({log!r}, "a").write({name!r} + " " + " ".join(words) + "\\n")
if words == ["--help"]:
    print("usage: --no-warmup")
    sys.exit()
value = lambda flag: int(words[words.index(flag) + 1])
result = {{"build_commit": "abc", "build_number": 7, "n_prompt": value("-p"), "n_gen": value("-n"),
           "n_threads": value("-t"), "samples_ns": [(value("-p") + value("-n")) * 1000000]}}
{code}
print("a line that is no JSON\\n" + json.dumps([result]))
"""
"""It claims a millisecond for each token. `code` runs before it answers."""

PACKAGES = {
    "sentence_transformers": """
__version__ = "5"
class SentenceTransformer:
    def __init__(self, model, device, model_kwargs):
        assert device == "cpu" and model_kwargs == {"dtype": "bfloat16"}
        from mogemma import EmbeddingModel
        self.model = EmbeddingModel(model, threads=1)
    def tokenizer(self, texts):
        return {"input_ids": [self.model.tokenizer.encode(text) for text in texts]}
    def encode(self, texts, batch_size, show_progress_bar):
        print("this must not be taken for an answer")
        assert batch_size == len(texts)
""",
    "torch": """
__version__, bfloat16 = "2", "bfloat16"
def set_num_threads(n): assert n == 1
""",
    "llama_cpp": """
__version__ = "0.3"
class Llama:
    def __init__(self, model, n_ctx, n_threads, n_threads_batch, n_batch, verbose):
        from mogemma import SyncGemmaModel
        assert n_threads == n_threads_batch == 1 and not verbose
        self.model, self.held, self.n_ctx = SyncGemmaModel(model, threads=1), [], n_ctx
    def tokenize(self, text, add_bos): return self.model.tokenizer.encode(text.decode(), add_bos=add_bos)
    def token_bos(self): return 2
    def reset(self): self.held = []
    def eval(self, tokens):
        self.held += tokens
        assert len(self.held) <= self.n_ctx
    def sample(self, temp):
        assert temp == 0.0 and self.held
        return 5
""",
    "ik_llama_cpp": """
__version__ = "0.1"
class IkLlama:
    def __init__(self, model, n_ctx, n_threads, verbose):
        from mogemma import SyncGemmaModel
        self.model = SyncGemmaModel(model, threads=1)
    def tokenize(self, text, add_bos): return self.model.tokenizer.encode(text, add_bos=add_bos)
    def generate(self, tokens, max_tokens, temperature=0.0): return [5] * max_tokens
""",
}


def executable(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o755)
    return file


def llama_bench(folder: Path, name: str = "llama-bench", code: str = "") -> Path:
    """The program; each call of it is a line in `folder`/calls, with its name and arguments."""
    log = str(folder / "calls")
    return executable(folder / name, LLAMA_BENCH.format(python=sys.executable, log=log, name=name, code=code))


def python_with(folder: Path, **changes: str) -> Path:
    """A Python that has all the packages above; `changes` replace some of them."""
    packages = folder / "packages"
    packages.mkdir()
    for name, code in {**PACKAGES, **changes}.items():
        (packages / f"{name}.py").write_text(code)
    return executable(folder / "python", f'#!/bin/sh\nPYTHONPATH="{packages}" exec {sys.executable} "$@"\n')
