"""What all of the API's views share: who may call, what bodies are read, and how problems are answered.

Set here and not in the site's REST_FRAMEWORK setting, so that the app behaves alike in any Django site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from io import BytesIO
from typing import IO, Any, ClassVar, cast

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as ModelValidationError
from django.http import Http404
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import exceptions, parsers, permissions, renderers, serializers, status
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from crunch_tasks.errors import Refused
from server.api.filters import FORMAT, Narrowing
from server.api.paging import Pages
from server.limits import too_large
from server.operations.refusals import RETRY_AFTER_S
from server.permissions import NEEDS, Act, actor_of, project_of
from server.services import tokens


def _limited(stream: IO[Any], limit: int | None) -> BytesIO:
    if limit is None:
        return BytesIO(stream.read())
    # The stream is the request: what it announces to be too large, an ASGI server has not taken in.
    announced = int(getattr(stream, "META", {}).get("CONTENT_LENGTH") or 0)
    body = stream.read(limit + 1)
    if max(announced, len(body)) > limit:
        raise too_large(limit)
    return BytesIO(body)


def bounded_json(stream: IO[Any], limit: int | None, media_type: str | None, context: Mapping[str, Any] | None) -> Any:
    """JSON of at most `limit` bytes; what nests too deeply is the sender's error. Raises Refused, ParseError."""
    try:
        return parsers.JSONParser().parse(_limited(stream, limit), media_type, context)
    except RecursionError:
        raise exceptions.ParseError("The JSON is nested too deeply.") from None


class JSONParser(parsers.JSONParser):
    """JSON of the site's size."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return bounded_json(stream, settings.DATA_UPLOAD_MAX_MEMORY_SIZE, media_type, parser_context)


class FormParser(parsers.FormParser):
    """A form of bounded size."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        return super().parse(_limited(stream, limit), media_type, parser_context)


class JSONRenderer(renderers.JSONRenderer):
    """JSON in ASCII: a message may quote a lone surrogate of the request, which no encoding has."""

    ensure_ascii = True


def answer_problem(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every problem as JSON: `{"detail": sentence, "code": word}`, or the fields that are wrong.

    The answer to a GET has `detail` alone: by that, published clients know that it is an error.
    """
    if isinstance(error, RequestDataTooBig):
        error = too_large(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    response = exception_handler(_as_api_exception(error), context)
    if response is None or not isinstance(response.data, dict) or set(response.data) != {"detail"}:
        return response
    request = context.get("request")
    if request is None or request.method not in ("GET", "HEAD"):
        response.data["code"] = error.code if isinstance(error, Refused) else response.data["detail"].code
    return response


def _as_api_exception(error: Exception) -> Exception:
    if isinstance(error, Refused):
        refusal = exceptions.APIException(str(error), error.code)
        refusal.status_code = error.status
        if error.status == status.HTTP_503_SERVICE_UNAVAILABLE:
            # So the REST framework calls its Retry-After.
            vars(refusal)["wait"] = RETRY_AFTER_S
        return refusal
    if isinstance(error, ModelValidationError):
        return serializers.ValidationError(serializers.as_serializer_error(error))
    if isinstance(error, ObjectDoesNotExist):
        return exceptions.NotFound("What this is about was deleted meanwhile.")
    if isinstance(error, SuspiciousOperation):
        return exceptions.ParseError("The request cannot be read.")
    return error


class ProblemSerializer(serializers.Serializer[Any]):
    """A problem, in a sentence a person can act on, and a word for programs."""

    detail = serializers.CharField()
    code = serializers.CharField(required=False)


def problems(*codes: int) -> dict[int, OpenApiResponse]:
    """How the OpenAPI document describes these refusals."""
    wrong = OpenApiResponse(OpenApiTypes.OBJECT, "The fields that are wrong, with sentences for each; or a problem.")
    return {
        code: wrong if code == status.HTTP_400_BAD_REQUEST else OpenApiResponse(ProblemSerializer) for code in codes
    }


BUSY = {"503": "The server has too much to do, or its database does not answer. Try again."}
WRONG = {"400": "The address has a parameter that is not known here."}
OF_BODIES = {
    "413": "The body is too large.",
    "415": "The body's type is not read here.",
    "507": "The server has no room for the body.",
}


class Documented(AutoSchema):
    """A view's part of the OpenAPI document, with the refusals of views that do not list their own."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        """The operation; each may find the server busy, and one with a body also says what may be wrong with that."""
        operation = super().get_operation(*args, **kwargs)
        if operation:
            schema = {"$ref": "#/components/schemas/Problem"}
            wrong = {} if self.method in permissions.SAFE_METHODS else WRONG
            for code, told in {**BUSY, **wrong, **(OF_BODIES if "requestBody" in operation else {})}.items():
                answer = {"description": told, "content": {"application/json": {"schema": schema}}}
                operation["responses"].setdefault(code, answer)
        return operation

    def get_response_serializers(self) -> Any:
        good = super().get_response_serializers()
        if self.method == "GET":
            wrong = problems(400) if self._is_list_view(good) else {}
            return {200: good, **wrong, **problems(401, 403, 404)}
        if self.method == "DELETE":
            return {204: OpenApiResponse(description="It is gone."), **problems(401, 403, 404), **self._changed()}
        code = 201 if getattr(self.view, "action", "") == "create" else 200
        return {code: good, **problems(400, 401, 403, 404), **(self._changed() if code == 200 else {})}

    def _changed(self) -> dict[int, OpenApiResponse]:
        """The answer to an If-Match that is not met, where there are ETags."""
        return problems(412) if getattr(self.view, "is_tagged", False) else {}


class Tokens(TokenAuthentication):
    """`Authorization: Token KEY`: an access token, or a plain one of the REST framework, made in the admin."""

    def authenticate_credentials(self, key: str) -> tuple[Any, Any]:
        if not key.startswith(tokens.PREFIX):
            return super().authenticate_credentials(key)
        found = tokens.find(key)
        if found is None or not found.user.is_active:
            raise exceptions.AuthenticationFailed("Invalid token.")
        if found.expired:
            raise exceptions.AuthenticationFailed(f"The token {found.name!r} has expired. Make a new one.")
        return found.user, found


class Allowed(permissions.BasePermission):
    """The view's act, as `server.permissions` has it: on the site at once, in a project when the project is known."""

    def has_permission(self, request: Request, view: Any) -> bool:
        need = NEEDS[view.act]
        return bool(request.user.is_authenticated) and (need.role is not None or actor_of(request).may(view.act))

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        actor_of(request).require(view.act, project_of(obj))
        return True


class API(APIView):
    """The base of all views of the API. Each says for each of its actions, or methods, which act that is."""

    acts: ClassVar[Mapping[str, Act]] = {}
    parameters: ClassVar[Set[str]] = frozenset()
    """What its calls that change something take in their address; all else goes into the body."""

    schema = Documented()
    # The token comes first: its scheme makes the answer to a stranger a 401.
    authentication_classes = [Tokens, SessionAuthentication]
    permission_classes = [Allowed]
    parser_classes = [JSONParser, FormParser, parsers.MultiPartParser]
    renderer_classes = [JSONRenderer]
    # What there is to know of a view is in the OpenAPI document: OPTIONS is answered 405.
    metadata_class: Any = None
    throttle_classes: list[Any] = []
    pagination_class: Any = Pages
    filter_backends: Any = [Narrowing]

    @property
    def act(self) -> Act:
        """What this request is about to do. Raises KeyError for what the view has not named: nothing is open."""
        method = (self.request.method or "get").lower().replace("head", "get")
        if method == "options" or not hasattr(self, method):
            return Act.SIGN_IN
        return self.acts[getattr(self, "action", None) or method]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in permissions.SAFE_METHODS:
            # One that is passed over may be a `dry_run`.
            unknown = set(request.query_params) - self.parameters - {FORMAT}
            if unknown:
                told = "It is not known in the address here. What a call is to do stands in its body."
                raise exceptions.ValidationError(dict.fromkeys(sorted(unknown), told))

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return answer_problem


def signed_in(request: Request) -> User:
    """Who sent the request; nobody else gets past `Allowed`."""
    return cast("User", request.user)


@extend_schema(exclude=True)
class NothingHere(API):
    """The answer to an address of the API that does not exist."""

    act = Act.SIGN_IN

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise Http404
