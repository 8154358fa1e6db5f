"""A Snakemake logger plugin that appends what happens as JSON lines to a file, for `crunch` to read while it runs.

Snakemake finds it by the package's name (`--logger crunch`). It writes one line per event to the file of
`--logger-crunch-events` and does nothing else: Snakemake stops sending events after an error in a plugin, and waits for
slow ones at its end.
"""

import contextlib
import json
import os
from dataclasses import dataclass, field
from logging import LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

FIELDS: dict[LogEvent, tuple[str, ...]] = {
    LogEvent.RUN_INFO: ("stats",),
    LogEvent.JOB_INFO: ("jobid", "rule_name", "log"),
    LogEvent.JOB_STARTED: ("jobs",),
    LogEvent.JOB_FINISHED: ("job_id",),
    LogEvent.JOB_ERROR: ("jobid", "rule_name", "log", "shellcmd"),
    LogEvent.PROGRESS: ("done", "total"),
    LogEvent.ERROR: ("exception",),
}
"""What is kept of each event; other events are left out."""


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    # Snakemake calls the annotation to parse the option: a plain type, no `from __future__ import annotations` here.
    events: str = field(
        default="", metadata={"help": "File that events are appended to as JSON lines.", "required": False}
    )


class LogHandler(LogHandlerBase):
    """Appends each event of `FIELDS` as one JSON line; never raises."""

    def __post_init__(self) -> None:
        self._file: int | None = None
        path = getattr(self.settings, "events", "")
        if path:
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError:
                self._file = None

    def emit(self, record: LogRecord) -> None:
        event = getattr(record, "event", None)
        if self._file is None or event not in FIELDS:
            return
        # An error here would end all further events without a word.
        with contextlib.suppress(Exception):
            os.write(self._file, line_of(record))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        return False

    @property
    def writes_to_file(self) -> bool:
        # True is for handlers with a `baseFilename` that Snakemake names to people as its log.
        return False

    @property
    def has_filter(self) -> bool:
        # Snakemake's own filter drops what `--quiet` hides; this one wants every event.
        return True

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False


def line_of(record: LogRecord) -> bytes:
    """The JSON line, with its end, for an event of `FIELDS`."""
    event: LogEvent = record.__dict__["event"]
    body: dict[str, Any] = {"event": str(event), "time": record.created}
    body.update({name: getattr(record, name, None) for name in FIELDS[event]})
    if event is LogEvent.ERROR:
        body["message"] = record.getMessage()
    return json.dumps(body, default=str).encode() + b"\n"
