"""Writing a file takes the memory of the pieces under way, not that of the model."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from wide import write_wide

if TYPE_CHECKING:
    from pathlib import Path

MEASURE = """
import json, sys, resource
from pathlib import Path
from mogemma.checkpoint import open_checkpoint
from mogemma.export import write_gguf

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

small, large, target = map(Path, sys.argv[1:])
with open_checkpoint(small) as checkpoint:
    write_gguf(checkpoint, target, "q4_k", threads=2)
before = peak()
with open_checkpoint(large) as checkpoint:
    written = write_gguf(checkpoint, target, "q4_k", threads=2)
print(json.dumps({"more": peak() - before, "read": written.read_bytes, "written": written.written_bytes}))
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps pages of a mapping that were given back")
def test_a_few_megabytes_are_enough_for_hundreds(gemma_path: Path, tmp_path: Path) -> None:
    """Of a model of 210 MB all but 64 MB is never in memory at once, neither as it was nor as it becomes."""
    large = write_wide(tmp_path / "large", hidden_size=1024, intermediate_size=2048)
    command = [sys.executable, "-c", MEASURE, str(gemma_path), str(large), str(tmp_path / "model.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["read"] > 200e6
    assert found["written"] > 25e6
    assert found["more"] < 64e6
