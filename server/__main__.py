"""`python -m server ...`: Django's manage command for the ready site (migrate, createsuperuser, runserver, ...)."""

from __future__ import annotations

import os
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import OperationalError

from crunch_tasks.errors import SettingsError
from server.site.environment import prepare_data_folder


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "server.site.settings")
    sys.argv[0] = "python -m server"
    try:
        # Read here, because Django's own command would hide the reason of some errors.
        settings.INSTALLED_APPS  # noqa: B018
        prepare_data_folder()
        execute_from_command_line(sys.argv)
    except (SettingsError, ImproperlyConfigured) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except OperationalError as error:
        print(f"Error: the database does not answer: {error}Check CRUNCH_DATABASE_URL.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
