"""A deployed model behind an OpenAI-compatible server, as a probe sees it. `client` talks, `subject` asks; docs/deployment.md."""

from unsay.audit.endpoint.client import EndpointConfig, EndpointError
from unsay.audit.endpoint.subject import EndpointSubject

__all__ = ["EndpointConfig", "EndpointError", "EndpointSubject"]
