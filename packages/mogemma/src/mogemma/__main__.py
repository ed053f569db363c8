"""`python -m mogemma` is `mogemma`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main(prog_name="mogemma")
