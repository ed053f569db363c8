"""`mogemma list`: the models on this machine, or those that have a short name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ..errors import MogemmaError
from ..hub.known import KNOWN, known_as
from .models import models_in
from .options import json_option
from .streams import notice, write_json
from .table import size, write_table


@click.command("list", short_help="Show the models that are here.")
@click.option("--known", is_flag=True, help="Show the models that have a short name, and what they take to download.")
@json_option
def list_models(known: bool, as_json: bool) -> None:
    """Show the models in the hub's cache and in the model folder that mogemma runs, and how big they are."""
    rows = list(_known() if known else _here())
    if as_json:
        write_json({"models": rows})
    elif rows:
        write_table([["name", "size", *_heads(known=known)], *(_cells(row, known=known) for row in rows)])
    else:
        notice("There is no model here. `mogemma pull` brings one: `mogemma list --known` shows which.")


def _here() -> Iterator[dict[str, Any]]:
    from ..hub import cache  # noqa: PLC0415  loads numpy
    from ..library import model_folder  # noqa: PLC0415  as above

    for path in models_in(model_folder()):
        with suppress(MogemmaError):
            family, n_bytes = _family(path)
            yield _row(path.name, n_bytes, family, "model folder", path)
    for found in cache.models():
        with suppress(MogemmaError):
            family, _ = _family(found.path)
            yield {
                **_row(str(found.source), found.n_bytes, family, "hub", found.path),
                "known_as": known_as(found.source.repo_id),
            }


def _row(name: str, n_bytes: int, family: str, origin: str, path: Path) -> dict[str, Any]:
    return {
        "name": name,
        "size_bytes": n_bytes,
        "family": family,
        "origin": origin,
        "path": str(path),
        "known_as": None,
    }


def _family(path: Path) -> tuple[str, int]:
    """Which Gemma it is, and its bytes; an error where it is none."""
    from ..architectures import read_architecture  # noqa: PLC0415  loads numpy
    from ..checkpoint import open_checkpoint  # noqa: PLC0415  as above

    with open_checkpoint(path) as checkpoint:
        return read_architecture(checkpoint).spec.family, checkpoint.n_bytes


def _known() -> Iterator[dict[str, Any]]:
    from ..hub import cache  # noqa: PLC0415  loads numpy
    from ..hub.folder import find_in_folder  # noqa: PLC0415  as above
    from ..hub.source import HubSource  # noqa: PLC0415  as above

    for name, model in KNOWN.items():
        is_here = cache.find(HubSource(model.repo_id)) is not None
        with suppress(MogemmaError):  # several files fit: then it is here all the more
            is_here = is_here or find_in_folder(name) is not None
        yield {
            "name": name,
            "size_bytes": model.n_bytes,
            "hub_id": model.repo_id,
            "licence": model.licence.name,
            "licence_url": model.licence.url,
            "is_gated": model.is_gated,
            "is_here": is_here,
        }


def _heads(*, known: bool) -> list[str]:
    return ["on the hub", "licence", "account", "here"] if known else ["family", "in"]


def _cells(row: dict[str, Any], *, known: bool) -> list[str]:
    if not known:
        return [row["name"], size(row["size_bytes"]), row["family"], row["origin"]]
    needs, here = "needed" if row["is_gated"] else "-", "yes" if row["is_here"] else "-"
    return [row["name"], size(row["size_bytes"]), row["hub_id"], row["licence"], needs, here]
