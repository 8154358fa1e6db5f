"""The stack's first user, and the password, which the first `up` that comes to its end shows, whatever came before."""

from __future__ import annotations

import dataclasses
import json
import secrets

from crunch_tasks.durable import write_durably
from crunch_tasks.errors import CrunchError
from deployments.local import ONLY_MINE, add_superuser, token_of
from deployments.stack.folder import StackFolder
from deployments.stack.services import Stack

ADMIN = "admin"


def add_admin(stack: Stack) -> Stack:
    """The stack with the token for clients on this machine, that of a user who may everything; made the first time.

    The password stays in the data folder until `take_password`. Raises CrunchError.
    """
    folder, database = stack.folder, stack.settings.database
    if stack.settings.token:
        return stack
    before = _not_shown(folder)
    passwords = {database: secrets.token_urlsafe(12)} | before
    # Before the user is there: an `up` that is killed in between leaves nobody without the password.
    _keep(folder, passwords)
    try:
        add_superuser(stack.server_environment, ADMIN, passwords[database])
    except CrunchError as error:
        if "already taken" not in str(error):
            raise
        # Of an earlier `up` that did not come to its end, or else of the site whose database this was before, where the
        # password is another one.
        _keep(folder, before)
    return Stack(folder, dataclasses.replace(stack.settings, token=token_of(stack.server_environment, ADMIN)))


def take_password(stack: Stack) -> str:
    """The password that nobody was shown yet, which is then kept no more; "" when there is none."""
    password = _not_shown(stack.folder).get(stack.settings.database, "")
    stack.folder.passwords.unlink(missing_ok=True)
    return password


def _not_shown(folder: StackFolder) -> dict[str, str]:
    """The passwords by database: an `up` that failed may have made its user in another one."""
    try:
        return dict(json.loads(folder.passwords.read_text("utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _keep(folder: StackFolder, passwords: dict[str, str]) -> None:
    write_durably(folder.passwords, json.dumps(passwords).encode(), ONLY_MINE)
