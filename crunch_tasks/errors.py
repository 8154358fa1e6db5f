"""Every error that Crunch raises on purpose, each with its exit code and whether a retry can help.

    CrunchError                     1
    +-- UsageError                  2   the command line, the environment or a settings file
    |   +-- SettingsError           2   names the file, the line and the key
    +-- NothingToProcess            3   no dataset can be claimed
    |   +-- NothingFits           3   datasets wait, but none fits this machine and its time
    |   +-- NoTime                3   one would not be done in the time that is left
    +-- LeaseLost                   4   another claim took the dataset, or it was reset
    +-- Cancelled                   1   a person cancelled the run
    +-- Stopped                     1   the command that runs it was told to end
    +-- ServerError                 1   the line to the server
    |   +-- ServerUnavailable       1   retryable: no answer, 429, 5xx
    |   +-- Unauthorized            2   401: the token is wrong or revoked
    |   +-- Refused                 1   403, 404, 409, 422: the server understood and said no; 2 for 400 and 404
    +-- StorageError                1   the storage refused or broke
    |   +-- TransferError           1   retryable: a transfer did not finish, or its bytes did not verify
    |   |   +-- TimedOut        1   retryable: a request did not end in its time
    |   |   +-- TooSlow         1   retryable, once: what arrives is less than the least rate
    |   +-- ObjectMissing           1   an object that should be there is not
    |   +-- Altered                 1   something else wrote over, or deleted, what a run had published
    |   +-- RenamingStorage         1   the storage stored under another name than asked
    +-- NamesRefused                1   file names that cannot be kept safely, all of them listed
    +-- WorkspaceError              1   the local folder: in use, another dataset's, not writable, full
    +-- WorkflowFailed              1   the script or Snakemake ended badly

An exception's docstring is its message when none is given.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any


class CrunchError(Exception):
    """Something went wrong."""

    exit_code = 1
    retryable = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))


class UsageError(CrunchError):
    """The command cannot run as it was called."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is wrong."""


class NothingToProcess(CrunchError):
    """There is no dataset to process now."""

    exit_code = 3


class NothingFits(NothingToProcess):
    """Datasets wait, but none fits this machine and its time."""


class NoTime(NothingToProcess):
    """The dataset would not be done in the time that is left: no fault of the dataset, which is left to others."""


class LeaseLost(CrunchError):
    """The lease on the dataset was lost: another client has it, or it was reset. Nothing was published."""

    exit_code = 4


class Cancelled(CrunchError):
    """The run was cancelled."""


class Stopped(CrunchError):
    """The command was told to end."""


class ServerError(CrunchError):
    """The server's answer cannot be used."""


class ServerUnavailable(ServerError):
    """The server does not answer."""

    retryable = True

    def __init__(self, message: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unauthorized(ServerError):
    """The server does not accept the token. Check CRUNCH_TOKEN or --token."""

    exit_code = 2


class Refused(ServerError):
    """The server refused the request."""

    def __init__(self, message: str | None = None, status: int = 0, code: str = "", body: Any = None) -> None:
        """`body` is the answer's JSON, for those who know more of it than its sentence."""
        super().__init__(message)
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
            # The server names what it cannot take, or has not: wrong usage, wherever it is found out.
            self.exit_code = UsageError.exit_code
        self.status = status
        self.code = code
        self.body = body


class StorageError(CrunchError):
    """The storage cannot do what was asked."""


class TransferError(StorageError):
    """A file did not arrive as it was sent."""

    retryable = True


class TimedOut(TransferError):
    """A request to the storage did not end in its time."""


class TooSlow(TransferError):
    """The line to the storage is too slow."""


class ObjectMissing(StorageError):
    """A file that was listed is not in the storage any more."""


class Altered(StorageError):
    """Something else wrote over, or deleted, what a run had published."""


class RenamingStorage(StorageError):
    """The storage keeps files under other names than asked, so results could not be found again."""


class NamesRefused(CrunchError):
    """Some file names cannot be kept safely."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("These file names cannot be kept; rename the files:\n" + "\n".join(self.problems))


class WorkspaceError(CrunchError):
    """The workspace cannot be used."""


class NoRoom(WorkspaceError):
    """The dataset's files do not fit on this machine: no fault of the dataset, which is left to others."""


class WorkflowFailed(CrunchError):
    """The workflow failed."""
