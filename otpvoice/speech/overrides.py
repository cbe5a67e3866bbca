"""A user's own wordings, checked when they are loaded, not when a person is already on the line."""

from __future__ import annotations

from pathlib import Path

from otpvoice.errors import ConfigurationError
from otpvoice.speech.lint import lint_directory
from otpvoice.speech.wordings import Wordings, bundled


def load_wordings(directory: Path | str | None = None) -> Wordings:
    """The bundled wordings, under a user's own ``<tag>.toml`` files.

    Raises :class:`~otpvoice.errors.ConfigurationError` naming each file and everything that is wrong with it: bad
    TOML, unknown keys or variables, and whatever :mod:`otpvoice.speech.lint` finds.
    """
    if directory is None:
        return bundled()
    own, problems = lint_directory(Path(directory))
    if problems:
        raise ConfigurationError("the wordings are wrong:\n" + "\n".join(map(str, problems)))
    return Wordings(by_tag=dict(sorted({**bundled().by_tag, **own}.items())))
