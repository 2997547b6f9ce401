"""Resources as applications declare them, and how tasks ask for them in their signatures.

What a resource is and who asks for which is known here. When its values are made and torn down is
the worker's business: ``taskito.worker.resources``.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskito.config import check_choice, check_name
from taskito.exceptions import ConfigurationError

__all__ = ["INJECTED", "SCOPES", "Definition", "Recipe", "Request", "Resource", "define"]

SCOPES: Final = ("job", "thread", "worker")
"""How long values live, the shortest first."""

_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

# Python 3.14 evaluates annotations only now; those that it cannot evaluate are left as they are.
_SIGNATURE_OPTIONS: dict[str, Any] = (
    {} if sys.version_info < (3, 14) else {"annotation_format": 3}  # Format.FORWARDREF
)


class Resource:
    """Marks a parameter that the worker passes: the value of the resource of this name.

    Args:
        name: As ``Queue.resource`` was told.

    Example:
        >>> @queue.task()
        ... def count(table: str, db: Annotated[Connection, Resource("db")] = INJECTED) -> int: ...
        >>> count.delay("users")
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = check_name("Resource", name)

    def __repr__(self) -> str:
        return f"Resource({self.name!r})"

    def __eq__(self, other: object) -> bool:
        """Whether the other one marks the same resource."""
        return isinstance(other, Resource) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Resource, self.name))


class _Injected:
    """The default of a parameter whose value the worker passes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "INJECTED"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{name!r}: a worker passes this resource; whoever calls the function directly has to "
            "pass a value"
        )


INJECTED: Any = _Injected()
"""A default for parameters with a ``Resource``, so that type checkers let callers leave them out.

It is never passed by a worker. In a direct call of the function it says what is missing.
"""


@dataclass(frozen=True, slots=True)
class Definition:
    """A resource as it was declared.

    Attributes:
        name: What tasks ask for.
        function: The generator function that sets up, yields the value and tears down.
        scope: One of ``SCOPES``.
        check: Tells whether a value can still be used; None means that it always can.
        is_async: Whether the function is an async generator function.
    """

    name: str
    function: Callable[..., Any]
    scope: str
    check: Callable[[Any], object] | None
    is_async: bool

    @property
    def owner(self) -> str:
        """How messages name it."""
        return f"resource {self.name!r}"


@dataclass(frozen=True, slots=True)
class Request:
    """A parameter that asks for a resource.

    Attributes:
        parameter: Its name.
        resource: What it asks for.
        position: Its place among the positional parameters; None if it is keyword-only.
    """

    parameter: str
    resource: str
    position: int | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A resource and what it is made of.

    Attributes:
        definition: The resource.
        requests: What its function asks for.
    """

    definition: Definition
    requests: tuple[Request, ...]


def define(
    name: str, function: Callable[..., Any], scope: str, check: Callable[[Any], object] | None
) -> Definition:
    """Check what was declared and return it.

    Raises:
        ConfigurationError: The function does not yield, or an option is not allowed.
    """
    name = check_name("name", name)
    scope = check_choice("scope", scope, SCOPES)
    is_async = inspect.isasyncgenfunction(function)
    if not is_async and not inspect.isgeneratorfunction(function):
        raise ConfigurationError(
            f"resource {name!r}: {function!r} is no generator function; it has to yield the value "
            "once, with the set-up before and the teardown after it (and without @contextmanager)"
        )
    if check is not None:
        if not callable(check):
            raise ConfigurationError(f"check: {check!r} of resource {name!r} is not a function")
        if scope == "job":
            raise ConfigurationError(
                f"check: resource {name!r} is made for each job, so there is nothing to check; "
                "give scope='worker' or scope='thread'"
            )
        if inspect.iscoroutinefunction(check) and not is_async:
            raise ConfigurationError(
                f"check: {check!r} is async, and resource {name!r} is not; give a plain function"
            )
    return Definition(name, function, scope, check, is_async)


# Who asks for what --------------------------------------------------------------------------------


def requests_of(function: Callable[..., Any], owner: str) -> tuple[Request, ...]:
    """Return the parameters of a function that ask for resources.

    Args:
        function: A task's function, or that of a resource.
        owner: How messages name it.

    Raises:
        ConfigurationError: A parameter cannot be passed by keyword, or its annotation cannot be
            evaluated and mentions ``Resource``.
    """
    try:
        parameters = inspect.signature(function, **_SIGNATURE_OPTIONS).parameters
    except (TypeError, ValueError):
        return ()  # Some functions written in C have no signature.
    plain = _plain(function)
    try:
        hints: Mapping[str, Any] | None = typing.get_type_hints(plain, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations run any code; they are looked at one by one
        hints = None
    found = []
    for position, parameter in enumerate(parameters.values()):
        if hints is not None:
            marker = _marker(hints.get(parameter.name))
        else:
            marker = _marker(_evaluated(plain, parameter, owner))
        if marker is None:
            if parameter.default is INJECTED:
                raise ConfigurationError(
                    f"{owner}: the parameter {parameter.name!r} is INJECTED, but asks for nothing; "
                    f'annotate it with Annotated[..., Resource("name")]'
                )
            continue
        if parameter.kind not in _BY_KEYWORD:
            raise ConfigurationError(
                f"{owner}: the parameter {parameter.name!r} asks for {marker.name!r}, which is "
                f"passed by keyword, but it is {parameter.kind.description}"
            )
        by_position = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        found.append(Request(parameter.name, marker.name, position if by_position else None))
    return tuple(found)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that has the annotations."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004 - of an object


def _evaluated(function: Callable[..., Any], parameter: inspect.Parameter, owner: str) -> Any:
    """Return one annotation; None if it cannot be evaluated and asks for nothing."""
    annotation = parameter.annotation
    if _marker(annotation) is not None:
        return annotation
    names = getattr(inspect.unwrap(function), "__globals__", {})
    single = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(single, names, include_extras=True)["it"]
    except Exception as error:
        if "Resource(" in str(annotation) or parameter.default is INJECTED:
            raise ConfigurationError(
                f"{owner}: the annotation of the parameter {parameter.name!r} cannot be evaluated "
                f"({error}); what it names has to be imported at the top of the module, and not "
                "only for type checkers"
            ) from error
        return None


def _marker(annotation: Any) -> Resource | None:
    """Return the ``Resource`` of an annotation, if it has one."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        marked = (item for item in annotation.__metadata__ if isinstance(item, Resource))
        return next(marked, None)
    if origin is typing.Union or origin is types.UnionType:
        parts = (_marker(part) for part in typing.get_args(annotation))
        return next((part for part in parts if part is not None), None)
    return None


# Whether it can be had ----------------------------------------------------------------------------


def wire(definitions: Mapping[str, Definition]) -> dict[str, Recipe]:
    """Find out what each resource is made of.

    Args:
        definitions: All resources by name.

    Raises:
        ConfigurationError: One asks for an unknown resource, for one that lives shorter, for an
            async one though it is not async itself, for itself over others, or for something that
            nobody passes.
    """
    recipes = {}
    for name, definition in definitions.items():
        requests = requests_of(definition.function, definition.owner)
        check_requests(
            requests, definitions, definition.owner, definition.is_async, definition.scope
        )
        _check_rest(definition, requests)
        recipes[name] = Recipe(definition, requests)
    for name in recipes:
        _check_cycles(recipes, [name])
    return recipes


def check_requests(
    requests: Iterable[Request],
    definitions: Mapping[str, Definition],
    owner: str,
    is_async: bool,
    scope: str = "job",
) -> None:
    """Check that all that is asked for can be had.

    Args:
        requests: The parameters.
        definitions: All resources by name.
        owner: Who asks, for messages.
        is_async: Whether it runs on an event loop.
        scope: How long the owner lives.

    Raises:
        ConfigurationError: It cannot; names the owner, the parameter and the resource.
    """
    for request in requests:
        asks = f"{owner}: the parameter {request.parameter!r} asks for resource"
        wanted = definitions.get(request.resource)
        if wanted is None:
            known = ", ".join(map(repr, sorted(definitions))) or "none"
            raise ConfigurationError(
                f"{asks} {request.resource!r}, which is not declared; known: {known}"
            )
        if SCOPES.index(wanted.scope) < SCOPES.index(scope):
            raise ConfigurationError(
                f"{asks} {request.resource!r}, which lives shorter: its scope is {wanted.scope!r}, "
                f"and that of the asking one {scope!r}"
            )
        if wanted.is_async and not is_async:
            raise ConfigurationError(
                f"{asks} {request.resource!r}, which is async: only an async def function can have "
                "it, since it lives on the event loop"
            )


def _check_rest(definition: Definition, requests: Iterable[Request]) -> None:
    """Check that nothing but resources has to be passed to a resource."""
    passed = {request.parameter for request in requests}
    parameters = inspect.signature(definition.function, **_SIGNATURE_OPTIONS).parameters
    for name, parameter in parameters.items():
        needed = parameter.default is inspect.Parameter.empty and parameter.kind not in {
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        }
        if needed and name not in passed:
            raise ConfigurationError(
                f"{definition.owner}: nobody passes the parameter {name!r}; give it a default, or "
                f'ask for a resource with Annotated[..., Resource("name")]'
            )


def _check_cycles(recipes: Mapping[str, Recipe], path: list[str]) -> None:
    for request in recipes[path[-1]].requests:
        if request.resource in path:
            cycle = " -> ".join(repr(name) for name in [*path, request.resource])
            raise ConfigurationError(
                f"resource {path[-1]!r}: the parameter {request.parameter!r} asks for resource "
                f"{request.resource!r}, which leads round in a circle: {cycle}"
            )
        _check_cycles(recipes, [*path, request.resource])
