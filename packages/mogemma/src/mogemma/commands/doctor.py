"""`mogemma doctor`: what is installed, on what machine, and whether it works."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

import mogemma

from ..errors import MogemmaError, UnsupportedModelError
from .models import models_in
from .options import json_option
from .streams import write, write_json
from .table import size, write_fields, write_table

PATIENCE = 60
"""Seconds that the kernels have to check themselves in; they need half a one."""

FOLDER_VARIABLE = "MOGEMMA_MODELS"
OTHER_VARIABLES = {
    "MOGEMMA_CPU_LEVEL": "Kernels to use, instead of the best for this processor.",
    "MOGEMMA_CPU_LEVELS": "Kernels that are compiled when mogemma is built.",
    FOLDER_VARIABLE: "Folder of the models that are called by name.",
}
"""Environment variables that belong to no option."""


@dataclass
class Findings:
    """Sentences: what is broken and what to do about it, and what is merely worth knowing."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@click.command(short_help="Check the installation and the machine.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check that mogemma works here, and show what it finds: versions, processor, kernels, models, environment variables.

    The exit status is 1 if something is broken.
    """
    from .machine import memory, processor, system, versions  # noqa: PLC0415  30 ms

    findings = Findings()
    report: dict[str, Any] = {"versions": versions(), "system": system(), "processor": processor(), "memory": memory()}
    try:
        report["kernels"] = kernels(findings)
        report["models"] = models(findings)
        report["hub"] = hub()
        report["environment"] = environment(ctx.find_root().command, findings)
    except ImportError as error:
        findings.problems.append(f"A package that mogemma needs cannot be loaded: {error}. Install mogemma again.")
    (_write_json if as_json else _write_report)(report, findings)
    ctx.exit(1 if findings.problems else 0)


def kernels(findings: Findings) -> dict[str, Any]:
    """The libraries that run here, the chosen one, and whether it computes right."""
    from .. import _native  # noqa: PLC0415  loads numpy and cffi

    report: dict[str, Any] = {"folder": str(_native.kernel_folder()), "runnable": [], "chosen": None, "computes": None}
    try:
        report["runnable"] = list(_native.runnable_levels())
        report["chosen"] = _native.load_kernel().level
    except MogemmaError as error:
        findings.problems.append(str(error))
        return report
    complaint = _self_check()
    report["computes"] = not complaint
    if complaint:
        findings.problems.append(complaint)
    best = report["runnable"][-1]
    if report["chosen"] != best:
        findings.notes.append(f"MOGEMMA_CPU_LEVEL asks for {report['chosen']}; {best} runs here too, and faster.")
    return report


def _self_check() -> str:
    """What is wrong with the kernels. In a process of its own: an instruction that this processor lacks would end it."""
    package = Path(mogemma.__file__).parent
    command = [sys.executable, "-m", f"{__package__}.self_check"]
    try:
        done = subprocess.run(
            command, cwd=package.parent, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"The kernels did not end a tiny computation in {PATIENCE} s. Please report this as a bug in mogemma."
    if done.returncode == 0:
        return ""
    if done.stdout.strip():
        return done.stdout.strip()
    told = done.stderr.strip().splitlines()[-1:] or [f"signal {-done.returncode}"]
    return (
        f"The kernels broke off a tiny computation: {told[0]}. Install a wheel for this machine, or set MOGEMMA_CPU_LEVEL "
        "to a lower level; and please report this as a bug in mogemma."
    )


def models(findings: Findings) -> dict[str, Any]:
    """The model folder and what lies in it."""
    from ..library import model_folder  # noqa: PLC0415  loads numpy

    folder = model_folder()
    if not folder.is_dir():
        if os.environ.get(FOLDER_VARIABLE):
            findings.problems.append(
                f"{FOLDER_VARIABLE} names {folder}, which is no folder. Make it, or unset the variable."
            )
        else:
            findings.notes.append(f"There is no model folder {folder}: call models by their paths, or pull them.")
    return {"folder": str(folder), "found": [_model(path, findings) for path in models_in(folder)]}


def _model(path: Path, findings: Findings) -> dict[str, Any]:
    from ..architectures import read_architecture  # noqa: PLC0415  loads numpy
    from ..checkpoint import open_checkpoint  # noqa: PLC0415  as above

    report: dict[str, Any] = {"name": path.name, "size_bytes": None, "family": None}
    try:
        with open_checkpoint(path) as checkpoint:
            report["size_bytes"] = checkpoint.n_bytes
            report["family"] = read_architecture(checkpoint).spec.family
    except UnsupportedModelError as error:
        findings.notes.append(f"{path.name} cannot be used: {error}")
    except MogemmaError as error:
        findings.problems.append(f"{path.name} is damaged: {error} Remove it, or get it again.")
    return report


def hub() -> dict[str, Any]:
    """Where models are downloaded from and to; None where huggingface-hub, which would do it, is not installed."""
    from ..hub import cache, client, trouble  # noqa: PLC0415  loads numpy

    report: dict[str, Any] = {"cache": str(cache.cache_folder()), "endpoint": None, "offline": None, "token": None}
    with suppress(ImportError):
        from huggingface_hub import get_token  # noqa: PLC0415  an extra, and heavy

        report |= {"endpoint": trouble.endpoint(), "offline": client.is_offline(), "token": get_token() is not None}
    return report


def environment(command: click.Command, findings: Findings) -> list[dict[str, Any]]:
    """Every variable that mogemma reads, what it is set to and what it is for."""
    options = _options_by_variable(command)
    meanings = {**OTHER_VARIABLES, **{variable: option.help or "" for variable, option in options.items()}}
    for variable in sorted(os.environ):
        if variable.startswith("MOGEMMA_") and variable not in meanings:
            findings.notes.append(f"Nothing reads the environment variable {variable}. Is it misspelt?")
        elif os.environ[variable] and variable in options:
            findings.problems += _complaints(variable, options[variable])
    return [
        {
            "name": variable,
            "value": os.environ.get(variable),
            "option": _long_name(options[variable]) if variable in options else None,
            "meaning": meanings[variable],
        }
        for variable in sorted(meanings)
    ]


def _options_by_variable(command: click.Command) -> dict[str, click.Option]:
    """All options of a group's commands that a variable sets; of several with the same one, the first."""
    found: dict[str, click.Option] = {}
    for each in getattr(command, "commands", {}).values():
        for option in each.params:
            if isinstance(option, click.Option) and option.envvar:
                variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar
                found = {**dict.fromkeys(variables, option), **found}
    return found


def _long_name(option: click.Option) -> str:
    return next(name for name in option.opts if name.startswith("--"))


def _complaints(variable: str, option: click.Option) -> list[str]:
    """What is wrong with a variable that is set."""
    from ..hub.locate import Located, search  # noqa: PLC0415  loads numpy

    context = click.Context(click.Command("mogemma"))
    try:
        value = option.type_cast_value(context, option.value_from_envvar(context))
        for config in (mogemma.GenerationConfig, mogemma.EmbeddingConfig):
            if option.name == "model":
                found = search(value)
                if isinstance(found, Located):
                    found.path.stat()
            elif option.name in config.__dataclass_fields__ and not option.multiple:
                config(**{"model": "any", option.name: value})
    except click.BadParameter as error:
        return [f"The environment variable {variable} is wrong: {error.format_message()}"]
    except (MogemmaError, OSError) as error:
        return [f"The environment variable {variable} is wrong: {error}"]
    return []


def _write_json(report: dict[str, Any], findings: Findings) -> None:
    write_json({"ok": not findings.problems, **report, "problems": findings.problems, "notes": findings.notes})


def _write_report(report: dict[str, Any], findings: Findings) -> None:
    for title in ("versions", "system", "processor", "memory", "kernels"):
        write(f"{title}\n")
        write_fields(report.get(title, {}), indent=2)
    if "models" in report:
        write(f"models in {report['models']['folder']}\n")
        write_table([_model_row(model) for model in report["models"]["found"]], indent=2)
    if "hub" in report:
        write("hub\n")
        write_fields(report["hub"], indent=2)
    write("environment\n")
    write_table([_variable_row(variable) for variable in report.get("environment", [])], indent=2)
    write("".join(f"\nNote: {note}\n" for note in findings.notes))
    write("".join(f"\nPROBLEM: {problem}\n" for problem in findings.problems))
    write("\nAll is well.\n" if not findings.problems else "")


def _model_row(model: dict[str, Any]) -> list[str]:
    return [model["name"], model["family"] or "not usable", size(model["size_bytes"]) if model["size_bytes"] else ""]


def _variable_row(variable: dict[str, Any]) -> list[str]:
    return [variable["name"], variable["value"] or "-", variable["option"] or variable["meaning"]]
