"""`mogemma info`: where a model comes from, what it is and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import MogemmaError
from ..hub.known import GENERATOR, KNOWN, known_as, licence_of, licence_of_family
from .advice import advise
from .models import open_either
from .options import json_option, model_option
from .streams import notice, write_json
from .table import write_fields

if TYPE_CHECKING:
    from ..hub.source import HubSource

LABELS = {
    "origin": "found as",
    "hub_id": "on the hub",
    "known_as": "short name",
    "licence_url": "licence text",
    "is_gated": "needs an account",
    "download_bytes": "to download",
    "format": "most weights",
    "formats": "tensors",
    "unused_parts": "unused parts",
    "n_parameters": "parameters",
    "n_layers": "layers",
    "hidden_dim": "hidden size",
    "vocab_size": "vocabulary",
    "max_context": "most context",
    "is_context_cut": "cut to memory",
    "embedding_dim": "embedding size",
    "dense_heads": "dense heads",
    "cache_format": "KV cache format",
    "level": "CPU level",
    "layer_weights": "weights in layers",
    "layer_bytes": "layer weights",
    "head_bytes": "head weights",
    "kv_cache_bytes": "KV cache",
    "kv_token_bytes": "of it a token",
    "kv_window_bytes": "of it windows",
    "scratch_bytes": "scratch memory",
    "packed_bytes": "packed weights",
    "is_short_of_memory": "too big to pack",
    "mapped_bytes": "files",
    "resident_bytes": "resident memory",
    "peak_resident_bytes": "peak of it",
}


@click.command(short_help="Show what a model is and what it costs.")
@model_option
@json_option
def info(model: str | None, as_json: bool) -> None:
    """Show where a model comes from, its licence, family, sizes and formats, and the memory it takes.

    Nothing is downloaded: of a model that is not here it shows what `mogemma pull` would bring.
    """
    fields = _fields(model)
    if as_json:
        write_json(fields)
    else:
        write_fields(fields, labels=LABELS)


def _fields(model: str | None) -> dict[str, Any]:
    from ..hub.locate import Located, Wanted, search, stand_in  # noqa: PLC0415  loads numpy

    found = search(GENERATOR if model is None else model)
    if isinstance(found, Wanted):
        path = stand_in(GENERATOR) if model is None else None
        if path is None:
            return _elsewhere(found.source)
        notice(f"{GENERATOR} is not here; this is {path}.")
        found = Located(path, "model folder")
    with open_either(found.path) as opened:
        advise(opened.info)
        fields = opened.info.as_dict()
    by_id = licence_of(found.source.repo_id) if found.source else None
    licence = by_id or licence_of_family(fields["family"])
    return {
        "origin": found.origin,
        "hub_id": str(found.source) if found.source else None,
        "revision": found.revision,
        "licence": licence.name,
        "licence_url": licence.url,
        **fields,
    }


def _elsewhere(source: HubSource) -> dict[str, Any]:
    """What is known of a model that is not here: from the hub, or where that does not answer, from the table."""
    from ..hub.pull import look_up  # noqa: PLC0415  loads numpy

    alias = known_as(source.repo_id)
    revision, theirs, files = None, None, None
    try:
        plan = look_up(source)
        revision, n_bytes, is_gated = plan.repository.revision, plan.n_bytes, plan.repository.is_gated
        theirs, files = plan.repository.licence, plan.names
    except MogemmaError:
        if alias is None or source.which is not None:
            raise
        n_bytes, is_gated = KNOWN[alias].n_bytes, KNOWN[alias].is_gated
    licence = licence_of(source.repo_id)
    return {
        "origin": "not on this machine",
        "hub_id": str(source),
        "known_as": alias,
        "revision": revision,
        "licence": licence.name if licence else theirs,
        "licence_url": licence.url if licence else f"https://huggingface.co/{source.repo_id}",
        "is_gated": is_gated,
        "download_bytes": n_bytes,
        "files": files,
    }
