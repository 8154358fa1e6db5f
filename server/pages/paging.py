"""Splitting long lists into pages."""

from __future__ import annotations

ROWS = 50
HISTORY_ROWS = 25
FILE_ROWS = 100
