"""`bench`: measures mogemma on a real model, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.core import ParameterSource

from .commands.compare import compare
from .commands.growth import growth
from .commands.precision import precision_options
from .commands.roofline import roofline
from .embedding import TEXTS_PER_CALL, measure_embedding
from .engine import Precision
from .errors import BenchError, OptionError
from .generation import measure_generation
from .library import MogemmaEmbedder, MogemmaGenerator
from .models import embedding_model, generation_model
from .output import to_json, wants_json
from .report import Result, write_table

PROMPT_TOKENS = {"generation": 512, "embedding": 128}


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--mode", type=click.Choice(["generation", "embedding"]), default="generation", show_default=True)
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="A GGUF file, or a folder with safetensors. "
    "[default: Gemma 3 270M; to embed, EmbeddingGemma 300M where it is found]",
)
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, metavar="N", help="Samples, after one to warm up."
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(2),
    default=128,
    show_default=True,
    metavar="N",
    help="Generation: tokens written a round; the first belongs to the prefill.",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(1),
    metavar="N",
    help="Generation: tokens of the prompt, BOS included. Embedding: tokens of each of the "
    f"{TEXTS_PER_CALL} texts of a call. [default: {PROMPT_TOKENS['generation']} and {PROMPT_TOKENS['embedding']}]",
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Threads that compute. [default: the cores there are]"
)
@precision_options
@click.option("--json", "as_json", is_flag=True, help="A JSON document on a terminal too; elsewhere it is one anyway.")
@click.version_option(package_name="mogemma-bench")
@click.pass_context
def main(
    context: click.Context,
    mode: str,
    model: Path | None,
    rounds: int,
    max_new_tokens: int,
    prompt_tokens: int | None,
    threads: int | None,
    precision: Precision,
    as_json: bool,
) -> None:
    """Measure mogemma on a real model: a table on a terminal, elsewhere one JSON document; progress on standard error.

    Generation reports prefill and decode apart. Every sample is in the document, with the machine, the commit and the
    model's SHA-256, and each speed's share of what the machine can do at most.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before_a_command(context)
        return
    n_prompt_tokens = prompt_tokens or PROMPT_TOKENS[mode]
    try:
        result = _measure(mode, model, rounds, max_new_tokens, n_prompt_tokens, threads, precision)
    except OptionError as error:
        new_tokens = "" if mode == "embedding" else f" and --max-new-tokens {max_new_tokens}"
        raise click.UsageError(f"{error} (Asked for: --prompt-tokens {n_prompt_tokens}{new_tokens}.)") from error
    except (BenchError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if wants_json(as_json):
        click.echo(to_json(result))
    else:
        write_table(result, sys.stdout)


for command in (compare, growth, roofline):
    main.add_command(command)


def _refuse_options_before_a_command(context: click.Context) -> None:
    """They would be those of the measurement that is not made."""
    given = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(f"Options of {context.invoked_subcommand} go behind its name.")


def _measure(
    mode: str,
    model: Path | None,
    rounds: int,
    n_new_tokens: int,
    n_prompt_tokens: int,
    threads: int | None,
    precision: Precision,
) -> Result:
    if mode == "embedding":
        path = embedding_model(model, _tell)
        return measure_embedding(
            path,
            lambda: MogemmaEmbedder(path, threads=threads, precision=precision),
            n_rounds=rounds,
            n_text_tokens=n_prompt_tokens,
            tell=_tell,
        )
    path = generation_model(model, _tell)
    return measure_generation(
        path,
        lambda: MogemmaGenerator(path, context=n_prompt_tokens + n_new_tokens, threads=threads, precision=precision),
        n_rounds=rounds,
        n_prompt_tokens=n_prompt_tokens,
        n_new_tokens=n_new_tokens,
        tell=_tell,
    )


def _tell(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
