"""Until when a client may work: as it is told, or as its batch system says. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping

_SPAN = re.compile(r"\+(?=.)(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII)
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)


def end(text: str, now: dt.datetime) -> dt.datetime:
    """The time that `text` means at `now` (both with a time zone); what names no zone is of the zone of `now`.

    `+2h`, `+1h30m`: from now on; `18:30`: the next time that the clock says so; else ISO 8601. Raises ValueError.
    """
    if span := _SPAN.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in span.groups())
        return now + dt.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if clock := _CLOCK.fullmatch(text):
        today = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return today if today > now else today + dt.timedelta(days=1)
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; it should look like +2h, 18:30 or 2030-12-31T18:30") from None
    return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)


def end_of_job(environment: Mapping[str, str]) -> dt.datetime | None:
    """When the batch system ends this job, if it says so (Slurm does)."""
    told = environment.get("SLURM_JOB_END_TIME", "")
    # Longer ones are no time of this era.
    is_time = told.isascii() and told.isdigit() and len(told) < 12
    return dt.datetime.fromtimestamp(int(told), dt.UTC) if is_time else None
