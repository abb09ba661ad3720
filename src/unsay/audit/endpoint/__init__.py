"""A deployed model behind an OpenAI-compatible server, as a probe sees it. `client` talks, `subject` asks; docs/deployment.md."""

from unsay.audit.endpoint.client import Client, EndpointConfig, EndpointError, Refused
from unsay.audit.endpoint.subject import NO_PREFILL, NO_SAMPLING, EndpointSubject

__all__ = ["NO_PREFILL", "NO_SAMPLING", "Client", "EndpointConfig", "EndpointError", "EndpointSubject", "Refused"]
