"""`release reproduce`: does the same commit give the same bytes?"""

from __future__ import annotations

import click

from ..artifacts.reproduce import installed_locales, other_locale
from ..artifacts.reproduce import reproduce as comparisons_of
from ..matrix import Platform
from ..repository import Repository
from .build import platform_option
from .frame import Outcome, release_command


@release_command
@platform_option("A wheel for this platform only; can be given more than once.")
def reproduce(repository: Repository, platforms: tuple[Platform, ...]) -> Outcome:
    """Build the commit twice, under conditions as different as this machine allows, and compare the bytes."""
    locale = other_locale(installed_locales())
    found = comparisons_of(repository, platforms, locale=locale, report=lambda line: click.echo(line, err=True))
    lines = [
        f"locales: C and {locale}" if locale else "locales: only C here, so that this one condition was not another"
    ]
    for one in found:
        lines.append(f"{'same' if one.same else 'DIFFERS':8}{' '.join(dict.fromkeys(one.digests))}  {one.name}")
        lines += [f"        {line}" for line in one.account.splitlines()]
    artifacts = [{"name": one.name, "same": one.same, "sha256": one.digests, "account": one.account} for one in found]
    data = {"commit": repository.commit, "other_locale": locale, "artifacts": artifacts}
    return Outcome("\n".join(lines), data, ok=all(one.same for one in found))
