"""What a wheel must be."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser

from ..matrix import PACKAGE, Platform
from .archives import Archive
from .checks import Checks
from .libraries import library_problems
from .recipe import LICENSES, Recipe, differences

MOST_BYTES = 2_000_000
"""Four kernels and the package, without weights and without a runtime, fit."""


@dataclass(frozen=True)
class Wheel:
    """A wheel and what it should be."""

    archive: Archive
    platform: Platform
    recipe: Recipe

    def info(self, name: str) -> str:
        """A file of its .dist-info folder."""
        return self.archive.text(f"{self.recipe.dist_info}/{name}")

    def message(self, name: str) -> Message:
        return Parser().parsestr(self.info(name))


def size(wheel: Wheel) -> Iterator[str]:
    n_bytes = wheel.archive.file.stat().st_size
    if n_bytes > MOST_BYTES:
        yield f"{n_bytes:,} bytes, over {MOST_BYTES:,}"


def tag(wheel: Wheel) -> Iterator[str]:
    told = wheel.message("WHEEL")
    expected = f"py3-none-{wheel.platform.wheel_tag}"
    if told.get_all("Tag") != [expected]:
        yield f"WHEEL says {told.get_all('Tag')}, not {expected}"
    if told["Root-Is-Purelib"] != "false":
        yield "WHEEL says that it is for any platform"
    if wheel.recipe.target(wheel.platform).wheel_platform != wheel.platform.wheel_tag:
        yield "kernel_build.py builds for another tag"


def files(wheel: Wheel) -> Iterator[str]:
    """So no weights, no test data, nothing untracked and nothing left out."""
    yield from differences(wheel.archive.contents, wheel.recipe.wheel_files(wheel.platform))


def record(wheel: Wheel) -> Iterator[str]:
    own = f"{wheel.recipe.dist_info}/RECORD"
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(wheel.archive.text(own))) if row}
    if unlisted := sorted(wheel.archive.contents.keys() - rows.keys()):
        yield f"RECORD does not list {', '.join(unlisted[:5])}"
    for name, said in rows.items():
        content = wheel.archive.contents.get(name)
        if content is None:
            yield f"RECORD lists {name}, which is missing"
        elif name != own and said != [_record_digest(content), str(len(content))]:
            yield f"RECORD has another digest or size of {name}"


def _record_digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def metadata(wheel: Wheel) -> Iterator[str]:
    yield from metadata_problems(wheel.message("METADATA"), wheel.recipe.version)


def metadata_problems(told: Message, version: str) -> Iterator[str]:
    """Licences by PEP 639, and whose version of what this is."""
    number = re.fullmatch(r"(\d+)\.(\d+)", told["Metadata-Version"] or "")
    if number is None or (int(number[1]), int(number[2])) < (2, 4):
        yield f"Metadata-Version is {told['Metadata-Version']}: licences need 2.4"
    expected = {"Name": PACKAGE, "Version": version, "License-Expression": "Apache-2.0"}
    for field, value in expected.items():
        if told[field] != value:
            yield f"{field} is {told[field]}, not {value}"
    if sorted(told.get_all("License-File", [])) != sorted(LICENSES):
        yield f"License-File names {told.get_all('License-File')}"


def sbom(wheel: Wheel) -> Iterator[str]:
    """PEP 770. The tests hold the document to CycloneDX's schema; here it must be this wheel's."""
    try:
        document = json.loads(wheel.info("sboms/mogemma.cdx.json"))
        subject = document["metadata"]["component"]
        stated = {row["value"] for part in document["components"] for row in part.get("properties", ())}
        if (document["bomFormat"], subject["name"], subject["version"]) != ("CycloneDX", PACKAGE, wheel.recipe.version):
            yield f"the SBOM is of {subject['name']} {subject['version']}"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        yield "there is no SBOM, or it is no CycloneDX document"
        return
    if missing := sorted(set(wheel.message("METADATA").get_all("Requires-Dist", [])) - stated):
        yield f"the SBOM lacks {', '.join(missing)}"


def times_and_modes(wheel: Wheel) -> Iterator[str]:
    """The zip format knows only even seconds."""
    moment = time.gmtime(wheel.recipe.epoch)[:6]
    if wheel.archive.times != {(*moment[:5], moment[5] // 2 * 2)}:
        yield "entries do not carry the commit's time"
    if wheel.archive.modes != {"100644"}:
        yield f"entries have the modes {', '.join(sorted(wheel.archive.modes))}"


def kernels(wheel: Wheel) -> Iterator[str]:
    functions = wheel.recipe.kernels.exported_names(wheel.archive.text("mogemma/_kernel/mogemma.h"))
    for name in wheel.recipe.libraries(wheel.platform):
        content = wheel.archive.contents.get(f"mogemma/_kernel/{name}", b"")
        yield from library_problems(content, name, wheel.platform, functions)
    try:
        levels = json.loads(wheel.archive.text("mogemma/_kernel/levels.json"))["levels"]
        listed = [level["library"] for level in levels]
    except (ValueError, LookupError, TypeError):
        listed = None
    if listed != wheel.recipe.libraries(wheel.platform):
        yield "levels.json does not list the kernels"


def no_extension(wheel: Wheel) -> Iterator[str]:
    """Why abi3audit has nothing to look at: no module speaks to Python's C API, so its stable ABI is not used either."""
    for name, content in wheel.archive.contents.items():
        if re.search(r"\.(abi3|cpython-\w+|cp\d+-\w+)[^/]*\.(so|pyd)$", name) or b"\0PyInit_" in content:
            yield f"{name} is an extension of Python"


CHECKS: Checks[Wheel] = {
    "at most 2 MB": size,
    "tag": tag,
    "files are the commit's, and all of them": files,
    "RECORD": record,
    "metadata and licences (PEP 639)": metadata,
    "SBOM (PEP 770)": sbom,
    "the commit's time, plain modes": times_and_modes,
    "kernels: architecture, exports, needed libraries, signature": kernels,
    "no Python extension (abi3audit has nothing to audit)": no_extension,
}
