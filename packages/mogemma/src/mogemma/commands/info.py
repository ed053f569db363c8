"""`mogemma info`: what a model is and what it costs."""

from __future__ import annotations

import click

from .advice import advise
from .models import chosen_model, open_either
from .options import json_option, model_option
from .streams import write_json
from .table import write_fields

LABELS = {
    "format": "most weights",
    "formats": "tensors",
    "unused_parts": "unused parts",
    "n_parameters": "parameters",
    "n_layers": "layers",
    "hidden_dim": "hidden size",
    "vocab_size": "vocabulary",
    "max_context": "most context",
    "embedding_dim": "embedding size",
    "dense_heads": "dense heads",
    "cache_format": "KV cache format",
    "level": "CPU level",
    "layer_weights": "weights in layers",
    "layer_bytes": "layer weights",
    "head_bytes": "head weights",
    "kv_cache_bytes": "KV cache",
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
    """Show a model's family, sizes and formats, and the memory it takes."""
    with open_either(chosen_model(model)) as opened:
        advise(opened.info)
        fields = opened.info.as_dict()
    if as_json:
        write_json(fields)
    else:
        write_fields(fields, labels=LABELS)
