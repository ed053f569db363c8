"""`bench` under the name that scripts know: python tools/benchmark.py --mode generation --rounds 30 > result.json"""

from __future__ import annotations

from mogemma_bench.cli import main

if __name__ == "__main__":
    main(prog_name="benchmark.py")
