"""What obstore raises, as our errors: each names the object, and says whether a retry can help."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)

from crunch_tasks.errors import CrunchError, NamesRefused, ObjectMissing, StorageError, TimedOut, TransferError

_LASTING = (
    PermissionDeniedError, UnauthenticatedError, NotSupportedError, UnknownConfigurationKeyError, InvalidPathError
)  # fmt: skip

# A listing that is refused (wrong key, no such bucket) has no class of its own in obstore, only its words.
_REFUSED = re.compile(r"status code: 4(?!08|29)\d\d")


@contextlib.contextmanager
def translated(key: str) -> Iterator[None]:
    """Turn obstore's errors into ours, naming the key."""
    try:
        yield
    except CrunchError:
        raise
    except FileNotFoundError as error:
        raise ObjectMissing(f"{key!r} is not in the storage: {_short(error)}") from error
    except PreconditionError as error:
        raise changed(key) from error
    except InvalidPathError as error:
        raise NamesRefused([f"below {key!r}: {_short(error)}"]) from error
    except _LASTING as error:
        raise StorageError(f"The storage refused {key!r}: {_short(error)}") from error
    except ValueError as error:
        raise NamesRefused([f"{key!r}: {_short(error)}"]) from error
    except (BaseError, OSError) as error:
        if _REFUSED.search(str(error)):
            raise StorageError(f"The storage refused {key!r}: {_short(error)}") from error
        if has_timed_out(error):
            raise TimedOut(f"{key!r} was not transferred in time: {_short(error)}") from error
        raise TransferError(f"{key!r} could not be transferred: {_short(error)}") from error


def has_timed_out(error: BaseException) -> bool:
    """obstore has no class for it, its message's debug part has a word."""
    return "kind: Timeout" in str(error)


def changed(key: str) -> TransferError:
    return TransferError(f"{key!r} changed while it was being read; run again when nothing writes to it")


def _short(error: Exception) -> str:
    """The first paragraph of obstore's message, without query strings, which can carry a signature."""
    text = " ".join(str(error).split("\n\nDebug source")[0].split())
    return re.sub(r"\?\S+", "?...", text)[:400]
