"""The site for a production server, such as `uvicorn server.site.asgi:application`."""

from __future__ import annotations

import os
import warnings

import django
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase

from server.site.environment import prepare_data_folder

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "server.site.settings")
prepare_data_folder()
# Static files are small, and Django reads them whole here; the advice is for endless streams.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators")

django.setup(set_prefix=False)

# Models can be imported only now.
from server.operations.bodies import Bounded  # noqa: E402
from server.services import webhooks  # noqa: E402
from server.webhooks import background  # noqa: E402


class InOneThread(Bounded):
    """Answers each request in one thread: all middleware and views here are synchronous.

    Django's own would change threads twice for each middleware, which took a third of the time of a claim.
    """

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: ARG002 - Django's own name
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)


application = InOneThread()
background.worker.start(webhooks.deliver)
