"""Archives of the same bytes from every build, whatever the machine: entries in order, one time, no owner, plain modes.

The time is SOURCE_DATE_EPOCH where that is set, in seconds since 1970, as all builds of a release set it to their commit's:
`make epoch`.
What is left to the machine is its zlib: another implementation compresses the same contents to other bytes.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import time
import zipfile
from pathlib import Path

VARIABLE = "SOURCE_DATE_EPOCH"
_ZIP_TIMES = 315532800, 4354819198  # 1980 to 2107: what the format of zip can say
_FILE_MODE = 0o644


def build_time() -> int:
    """Seconds since 1970 that archives carry."""
    return int(os.environ.get(VARIABLE) or time.time())


def normalise_wheel(wheel: Path) -> None:
    """Write a wheel anew: setuptools keeps its entries in order, but gives them the modes of the builder's umask."""
    earliest, latest = _ZIP_TIMES
    moment = time.gmtime(min(max(build_time(), earliest), latest))[:6]
    copy = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as built, zipfile.ZipFile(copy, "w") as written:
        for name in built.namelist():
            entry = zipfile.ZipInfo(name, moment)
            entry.create_system = 3  # Unix, on every machine: says how to read the next line
            entry.external_attr = (stat.S_IFREG | _FILE_MODE) << 16
            written.writestr(entry, built.read(name), zipfile.ZIP_DEFLATED, compresslevel=9)
    copy.replace(wheel)


def normalise_sdist(sdist: Path) -> None:
    """Write a .tar.gz anew: setuptools packs it with the builder's name, modes and hours, in the order of the folder."""
    moment = build_time()
    copy = sdist.with_suffix(".part")
    with (
        tarfile.open(sdist) as built,
        copy.open("wb") as stream,
        gzip.GzipFile("", "wb", 9, stream, moment) as zipped,  # without a name, which would stand in the header
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as written,
    ):
        for name in sorted(entry.name for entry in built if not entry.isdir()):
            packed = built.extractfile(name)
            assert packed is not None
            content = packed.read()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), moment, _FILE_MODE
            written.addfile(entry, io.BytesIO(content))
    copy.replace(sdist)
