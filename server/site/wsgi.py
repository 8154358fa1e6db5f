"""The site for a production server."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from server.site.environment import prepare_data_folder

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "server.site.settings")
prepare_data_folder()
application = get_wsgi_application()

# Models can be imported only now.
from server.services import webhooks  # noqa: E402
from server.webhooks import background  # noqa: E402

background.worker.start(webhooks.deliver)
