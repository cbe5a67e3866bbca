"""``otpvoice`` and ``python -m otpvoice``: the command line, where its libraries are installed."""

from __future__ import annotations

import io
import sys

_EXTRA = {"typer", "rich", "segno"}


def main() -> None:
    """Run the command line. Without Typer and Rich: say in one line how to get them, and exit with 3."""
    try:
        from otpvoice.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        sys.stderr.write("otpvoice: the command line is an extra: pip install 'otpvoice[cli]'\n")
        sys.exit(3)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # A call was placed: a narrow terminal must not end the command.
    app(prog_name="otpvoice")


if __name__ == "__main__":
    main()
