r"""The site for a production server, such as `uvicorn server.site.asgi:application`."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from server.site.environment import prepare_data_folder

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "server.site.settings")
prepare_data_folder()
application = get_asgi_application()
