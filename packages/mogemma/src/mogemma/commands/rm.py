"""`mogemma rm`: deletes a model from the hub's cache."""

from __future__ import annotations

import sys

import click

from ..errors import ModelNotFoundError
from .options import json_option
from .pull import source_of
from .streams import is_terminal, notice, write_json
from .table import size


@click.command(short_help="Delete a model that was downloaded.")
@click.argument("model")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def rm(model: str, yes: bool, as_json: bool) -> None:
    """Delete all that the hub's cache holds of MODEL: every file and every version. Other programs lose it too.

    MODEL is a known name or org/name. Nothing outside of that cache is ever deleted: what lies in the model folder, or
    elsewhere, is yours.
    """
    from ..hub.folder import find_in_folder  # noqa: PLC0415  loads numpy
    from ..hub.remove import kept, remove  # noqa: PLC0415  as above

    source = source_of(model)
    if source.which is not None:
        raise click.UsageError(f"A repository is deleted as a whole. Say: mogemma rm {source.repo_id}")
    try:
        what = kept(source.repo_id)
    except ModelNotFoundError as error:
        path = find_in_folder(model)
        where = f" {path} is not the hub's: delete it yourself if you want to." if path else ""
        raise ModelNotFoundError(f"{error}{where}") from error
    if not yes:
        if not is_terminal(sys.stdin):
            raise click.UsageError(f"{what.folder} would be deleted ({size(what.n_bytes)}). Add --yes to do so.")
        click.confirm(f"Delete {what.folder} ({size(what.n_bytes)})?", abort=True, err=True)
    remove(source.repo_id)
    if as_json:
        write_json({"model": source.repo_id, "path": str(what.folder), "size_bytes": what.n_bytes})
    else:
        notice(f"Deleted {source.repo_id}: {size(what.n_bytes)}")
