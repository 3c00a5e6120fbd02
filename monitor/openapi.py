"""The OpenAPI description of the API, from the structs of the documents."""

import inspect
from typing import Any, Final

import msgspec
from quart_schema import Contact, Info, Server
from quart_schema.openapi import OpenAPIProvider
from werkzeug.routing.rules import Rule

import trioraft
from trioraft.settings.settings import MonitorSettings

_REFERENCE: Final = "#/components/schemas/{name}"
EVENT_STREAM: Final = "_monitor_event_stream"


class MonitorOpenAPI(OpenAPIProvider):
    """The description, with nested structs as components of their own, and with the stream of events."""

    def schema(self) -> dict[str, Any]:
        """Describe the API.

        Returns
        -------
        dict
            The OpenAPI document.
        """
        document = super().schema()
        contact = document["info"].get("contact")
        if isinstance(contact, Contact):
            document["info"]["contact"] = (
                contact.schema()
            )  # leaves out the fields that are not set, because they must not be null
        return document

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describe one rule; the description of a stream of events is the type of its events.

        Parameters
        ----------
        rule : werkzeug.routing.Rule
            The rule.

        Returns
        -------
        tuple of dict
            The path objects and the component schemas.
        """
        paths, components = super().build_paths(rule)
        model = getattr(self._app.view_functions[rule.endpoint], EVENT_STREAM, None)
        if model is not None:
            schema, components = _schema_of(model)
            description = "Server-sent events named `cluster`; the data of each is one document."
            content = {"text/event-stream": {"schema": schema}}
            for methods in paths.values():
                methods["get"]["responses"] = {"200": {"description": description, "content": content}}
        return paths, components

    def build_response_object(self, model: Any, headers_model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describe a response.

        Parameters
        ----------
        model : type
            The struct of the answer.
        headers_model : type or None
            Not used by the monitor.

        Returns
        -------
        tuple of dict
            The response object and the component schemas.
        """
        schema, components = _schema_of(model)
        return {
            "description": components[model.__name__]["description"],
            "content": {"application/json": {"schema": schema}},
        }, components


def _schema_of(model: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    (schema,), components = msgspec.json.schema_components([model], ref_template=_REFERENCE)
    for component in components.values():
        # The first paragraph is for users of the API; the rest is for readers of the source.
        component["description"] = inspect.cleandoc(component.get("description", "")).partition("\n\n")[0]
    return schema, components


def info_of(settings: MonitorSettings) -> Info:
    """Collect the configured texts for the description.

    Parameters
    ----------
    settings : MonitorSettings
        The monitor's configuration.

    Returns
    -------
    quart_schema.Info
        The title, version, description and contact.
    """
    contact = None
    if settings.api_maintainer or settings.api_email:
        contact = Contact(name=settings.api_maintainer or None, email=settings.api_email or None)
    return Info(
        title=settings.api_title,
        version=trioraft.__version__,
        description=settings.api_description,
        contact=contact,
    )


def servers_of(settings: MonitorSettings) -> list[Server | dict[str, Any]] | None:
    """List the server of the API, where it is under a path.

    Parameters
    ----------
    settings : MonitorSettings
        The monitor's configuration.

    Returns
    -------
    list of quart_schema.Server or None
        The server under ``ROOT_PATH``; None where the API is at the root.
    """
    return [Server(url=settings.root_path)] if settings.root_path else None
