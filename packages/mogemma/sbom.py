"""What a wheel consists of, for machines: a CycloneDX 1.6 document in its .dist-info/sboms (PEP 770).

It names what is compiled into the kernels, what they are compiled with, and the packages that mogemma requires, with the
ranges that it accepts: which version of them gets installed, no wheel can know. Nothing in it depends on the machine or
the hour, hence no serial number; the timestamp is that of the archives. It is written by hand, so that building from the
sdist needs no more packages; the tests hold it to the format's schema.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

import kernel_build
import reproducible

FILE = Path("sboms", "mogemma.cdx.json")
REQUIREMENT_PROPERTY = "mogemma:requirement"


def write(dist_info: Path) -> Path:
    """Put the document into a .dist-info folder that has its METADATA already."""
    file = dist_info / FILE
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(_document(PathDistribution(dist_info)), indent=1) + "\n", encoding="utf-8")
    return file


def _document(package: PathDistribution) -> dict[str, Any]:
    subject = _package("mogemma", "library", package.version, licenses=[{"expression": "Apache-2.0"}])
    parts = [_standard_library(), _compiler(), *map(_requirement, package.requires or ())]
    used = [part["bom-ref"] for part in parts if part["scope"] != "excluded"]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(reproducible.build_time(), timezone.utc).isoformat(),
            "lifecycles": [{"phase": "build"}],
            "authors": [{"name": "The mogemma authors"}],
            "component": subject,
        },
        "components": parts,
        "dependencies": [{"ref": subject["bom-ref"], "dependsOn": sorted(used)}],
    }


def _standard_library() -> dict[str, Any]:
    return _package(
        "mojo-compiler-mojo-libs",
        "library",
        kernel_build.MOJO_VERSION,
        description="The Mojo standard library: code of it is compiled into the kernels in mogemma/_kernel.",
        supplier={"name": "Modular Inc."},
        scope="required",
        licenses=[{"expression": "Apache-2.0 WITH LLVM-exception"}],
    )


def _compiler() -> dict[str, Any]:
    return _package(
        "mojo-compiler",
        "application",
        kernel_build.MOJO_VERSION,
        description="Compiles and links the kernels; nothing of it is in the wheel.",
        supplier={"name": "Modular Inc."},
        scope="excluded",
        licenses=[{"license": {"name": "MAX Platform Software License"}}],
    )


def _requirement(line: str) -> dict[str, Any]:
    """A component out of a line such as `numpy>=1.26` or `huggingface-hub>=0.30; extra == "hub"`."""
    name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
    scope = "optional" if re.search(r"\bextra\s*==", line) else "required"
    return _package(name, "library", scope=scope, properties=[{"name": REQUIREMENT_PROPERTY, "value": line}])


def _package(name: str, kind: str, version: str = "", **more: Any) -> dict[str, Any]:
    """A component that the Python Package Index knows; its reference is its package URL."""
    url = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}" + (f"@{version}" if version else "")
    named = {"type": kind, "bom-ref": url, "name": name}
    return {**named, **({"version": version} if version else {}), "purl": url, **more}
