"""`mogemma pull`: brings a model of the hub to this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import ModelNotFoundError
from ..hub.known import known_as, licence_of
from .models import announce, downloading
from .options import json_option
from .streams import notice, write, write_json
from .table import size

if TYPE_CHECKING:
    from ..hub.source import HubSource


@click.command(short_help="Download a model.")
@click.argument("model")
@json_option
def pull(model: str, as_json: bool) -> None:
    """Download MODEL, or what is missing of it or newer on the hub, check all of its files, and print where it lies.

    MODEL is a name that `mogemma list --known` shows, or what the hub calls a model, org/name, with one of its GGUF files or
    a quantisation behind a colon where that matters: ggml-org/gemma-3-1b-it-GGUF:Q8_0. It goes into the cache that
    huggingface-hub has for all programs (HF_HOME). HF_TOKEN is the token for models that ask for one.
    """
    from ..hub import pull as hub  # noqa: PLC0415  loads numpy

    source = source_of(model)
    with downloading() as watchers:
        plan = hub.look_up(source)
        announce(source, plan)
        cached = hub.pull(source, on_progress=watchers["on_progress"], plan=plan)
    if as_json:
        write_json(described(source, cached.revision, str(cached.path), cached.n_bytes))
    else:
        notice(f"{source} is here: {size(cached.n_bytes)}")
        write(f"{cached.path}\n")


def source_of(model: str) -> HubSource:
    """What the hub calls a model.

    Raises:
        ModelNotFoundError: It is no known name and no id.
    """
    from ..hub.source import read_source  # noqa: PLC0415  loads numpy

    source = read_source(model)
    if source is None:
        raise ModelNotFoundError(
            f"{model!r:.100} is no name that `mogemma list --known` shows, and nothing that the hub could have. Its models "
            "are called org/name, such as ggml-org/gemma-3-1b-it-GGUF."
        )
    return source


def described(source: HubSource, revision: str | None, path: str | None, n_bytes: int) -> dict[str, Any]:
    """A model of the hub, as `--json` shows it."""
    licence = licence_of(source.repo_id)
    return {
        "model": str(source),
        "known_as": known_as(source.repo_id),
        "revision": revision,
        "path": path,
        "size_bytes": n_bytes,
        "licence": licence.name if licence else None,
        "licence_url": licence.url if licence else None,
    }
