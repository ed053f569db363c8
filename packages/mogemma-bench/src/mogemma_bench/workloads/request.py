"""One request to a generator, and whether what it says of it can be true."""

from __future__ import annotations

from ..engine import Generated, Generator
from ..errors import BenchError
from ..measure import now


def request(generator: Generator, prompt: str, n_prompt_tokens: int, n_new_tokens: int) -> Generated:
    """Generate, under the eye of a second clock.

    Raises:
        BenchError: Other numbers of tokens than asked for, or times that are longer than the call was.
    """
    start = now()
    done = generator.generate(prompt, n_new_tokens)
    seconds = now() - start
    if (done.prompt_tokens, done.new_tokens) != (n_prompt_tokens, n_new_tokens):
        raise BenchError(
            f"Asked for {n_new_tokens} tokens after a prompt of {n_prompt_tokens}, the model wrote {done.new_tokens} "
            f"after {done.prompt_tokens}. Speeds of other work would be misleading, so none are given."
        )
    claimed = max(done.prefill_seconds + done.decode_seconds, done.first_token_seconds)
    if done.prefill_seconds <= 0 or claimed > seconds:
        raise BenchError(
            f"The model claims {done.prefill_seconds:.6f} s of prefill and {done.decode_seconds:.6f} s of decode in a "
            f"call of {seconds:.6f} s. Its clock is wrong, so no speeds are given."
        )
    return done
