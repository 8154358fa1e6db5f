"""Asking a person at a terminal for the settings that are missing; without a terminal, an error names them."""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from pydantic import SecretStr

from crunch_tasks.settings import ClientSettings, client_settings

QUESTIONS = {
    "url": "Address of the Crunch server",
    "token": "Your token on the server",
    "storage_settings": "Path of the storage settings file",
}


def ask_for_missing(settings: ClientSettings, *names: str) -> ClientSettings:
    """`settings` with every one of `names` (default: all three) present. Raises SettingsError without a terminal."""
    wanted = names or tuple(QUESTIONS)
    values = settings.model_dump()
    answers = {}
    if sys.stdin.isatty() and sys.stderr.isatty():
        for name in wanted:
            value = values[name].get_secret_value() if isinstance(values[name], SecretStr) else values[name]
            if not value:
                answers[name] = typer.prompt(QUESTIONS[name], hide_input=name == "token", err=True)
    complete = client_settings(**{**values, **answers}) if answers else settings
    complete.require(*wanted)
    if complete.storage_settings:
        return complete.model_copy(update={"storage_settings": Path(complete.storage_settings).expanduser().absolute()})
    return complete
