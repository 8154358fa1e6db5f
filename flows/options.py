"""One options model behind every way to start a run: each field of the models becomes one command-line option."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ByteSize, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from crunch_tasks.errors import UsageError
from crunch_tasks.settings import ClientSettings, client_settings, sentence


def takes_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `settings` by an option for each of the client settings `names`."""

    def build(values: dict[str, Any]) -> ClientSettings:
        given = {name: values.pop(name) for name in names}
        settings = client_settings(**given)
        # Not of the variable: a worker or a shell that has it is there beyond that time, for what has no end too.
        if given.get("until") and settings.seconds_left() == 0:
            raise UsageError(f"--until: {given['until']} is over. Give a time that is ahead, such as +2h or 18:30.")
        return settings

    options = [_option(name, ClientSettings.model_fields[name], optional=True) for name in names]
    return _replacing("settings", options, build)


def takes_options(name: str, model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `name`, which is such a model, by an option for each field of it."""

    def build(values: dict[str, Any]) -> BaseModel:
        given = {name: values.pop(name) for name in model.model_fields}
        try:
            return model(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            option = str(first["loc"][0]).replace("_", "-")
            raise UsageError(f"--{option}: {sentence(first)}") from None

    options = [_option(name, field, optional=False) for name, field in model.model_fields.items()]
    return _replacing(name, options, build)


def _replacing(
    name: str, options: list[inspect.Parameter], build: Callable[[dict[str, Any]], BaseModel]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def called(**values: Any) -> None:
            values[name] = build(values)
            command(**values)

        signature = inspect.signature(command, eval_str=True)
        kept = [parameter for parameter in signature.parameters.values() if parameter.name != name]
        arguments = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*kept, *options]]
        called.__signature__ = signature.replace(parameters=arguments)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in arguments}
        return called

    return decorate


def _option(name: str, field: FieldInfo, *, optional: bool) -> inspect.Parameter:
    """`optional`: no value given is None, and the model finds one elsewhere, such as in the environment."""
    kind: Any = field.annotation
    if kind is SecretStr:
        kind = str
    elif kind == ByteSize | None:
        kind = str | None
    flag = f"--{name.replace('_', '-')}"
    flags = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    variable = f" (CRUNCH_{name.upper()})" if optional else ""
    option = typer.Option(*flags, help=f"{field.description}{variable}.", show_default=not optional)
    annotation: Any = Annotated[kind | None if optional else kind, option]
    default = None if optional else field.get_default(call_default_factory=True)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
