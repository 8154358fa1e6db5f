r"""The site for a production server, such as `uvicorn server.site.asgi:application`."""

from __future__ import annotations

import os
import warnings

from django.core.asgi import get_asgi_application

from server.site.environment import prepare_data_folder

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "server.site.settings")
prepare_data_folder()
# Static files are small, and Django reads them whole here; the advice is for endless streams.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators")
application = get_asgi_application()

# Models can be imported only now.
from server.services import webhooks  # noqa: E402
from server.webhooks import background  # noqa: E402

background.worker.start(webhooks.deliver)
