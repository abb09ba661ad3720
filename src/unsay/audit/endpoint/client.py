"""One request to an OpenAI-compatible server, and its mistakes in our words. No key, question or reply is ever logged or quoted.

The `openai` package does the talking (`pip install 'unsay[endpoint]'`). huggingface_hub's client is installed anyway, but
has neither that protocol's text completions nor retries.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from unsay.config import ConfigError
from unsay.config.build import one_of
from unsay.extras import needed
from unsay.lm.subject import Prompt
from unsay.lm.templates import plain
from unsay.types import Answer

TIMEOUT = 300.0
"""Seconds to wait for one reply."""
RETRIES = 3
"""Times that a request is sent again after a lost connection, 429 or 5xx."""


class EndpointError(ConfigError):
    """The server cannot be used. The message names the URL and the way out, and quotes neither question nor reply."""


class Failed(EndpointError):
    """It answers, but not with what was asked for."""


class Refused(Failed):
    """It does not take this request (400 or 422): an option, perhaps, that it does not know."""


@dataclass(frozen=True)
class EndpointConfig:
    url: str = field(repr=False)
    """Where the server is, as `http://127.0.0.1:8000/v1`; a URL without a path gets `/v1`."""
    model: str = ""
    """Name of the model there; empty takes the one that the server lists."""
    api: str = "chat"
    """`chat` lets the server write its chat template; `completions` sends `Question: … Answer:` as it stands."""
    key_env: str = ""
    """Environment variable that holds the key; empty sends none. The key itself is never written anywhere."""

    def __post_init__(self) -> None:
        one_of("--api", self.api, ("chat", "completions"))
        if not _is_address(self.url):
            # Not quoted: without a scheme nobody can tell where a password in it ends.
            raise ConfigError("--endpoint is no address of a server; write it as http://HOST:PORT/v1")
        if self.key_env and not os.environ.get(self.key_env):
            raise ConfigError(f"--key-env {self.key_env}: that environment variable is empty; export it, or leave the option out")

    @property
    def base(self) -> str:
        """What requests are sent to, the query left out (it goes along with every request)."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=parts.path.rstrip("/") or "/v1", query="", fragment=""))

    @property
    def shown(self) -> str:
        """The URL without user, password and query: what may be printed and kept."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        return False


class Client:
    """A server and a model there. Raises `ConfigError` or `EndpointError` where they cannot be used."""

    def __init__(self, config: EndpointConfig, max_new_tokens: int, system_prompt: str = ""):
        if system_prompt and config.api == "completions":
            raise ConfigError('--api completions sends no system message; use --api chat, or set deployment.system_prompt = ""')
        self.config, self.max_new_tokens, self.system_prompt = config, max_new_tokens, system_prompt
        self.limit = "max_tokens"
        self._sdk = _sdk()
        # Empty, not None: the package would else send on what the environment holds for another server.
        self._server = self._sdk.OpenAI(
            base_url=config.base,
            default_query=dict(parse_qsl(urlsplit(config.url).query)),
            api_key=os.environ[config.key_env] if config.key_env else "none",
            organization="",
            project="",
            timeout=TIMEOUT,
            max_retries=RETRIES,
            # A server could else have the questions sent to any other.
            http_client=self._sdk.DefaultHttpxClient(follow_redirects=False),
        )

    @cached_property
    def model(self) -> str:
        """The model's name there."""
        if self.config.model:
            return self.config.model
        try:
            with self._explained():
                names = [str(model.id) for model in self._server.with_options(max_retries=0).models.list().data]
        except Failed:  # a server that has no such list
            names = []
        if len(names) != 1:
            listed = f"it lists {', '.join(names[:8])}" if names else "it lists none"
            raise self._error(f"which model? {listed}; name it with --model NAME")
        return names[0]

    def send(
        self,
        prompt: Prompt,
        n: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        way: Mapping[str, bool] | None = None,
    ) -> list[Answer]:
        """What comes back for one request: n answers, or fewer where the server makes no more at once. `way`: the further options
        with which it is to continue the prefix."""
        question, prefix, before = prompt.question, prompt.prefix, prompt.before
        options: dict[str, Any] = {"model": self.model, "temperature": temperature, self.limit: self.max_new_tokens}
        options |= {"top_p": top_p} if temperature > 0 else {}
        options |= {"seed": seed} if seed is not None else {}
        options |= {"n": n} if n > 1 else {}
        with self._explained():
            if self.config.api == "completions":
                asked = prefix if question is None else plain(question, before) + (f" {prefix}" if prefix else "")
                reply = self._server.completions.create(prompt=asked, **options)
            else:
                own = self.system_prompt and not any(role == "system" for role, _ in before)
                turns = [*([("system", self.system_prompt)] if own else []), *before, ("user", question or "")]
                turns += [("assistant", prefix)] if prefix else []
                messages = [{"role": role, "content": text} for role, text in turns]
                reply = self._server.chat.completions.create(messages=messages, extra_body=dict(way or {}), **options)
        choices = getattr(reply, "choices", None)
        texts = [_text(choice) for choice in choices] if isinstance(choices, list) else []
        if not choices or None in texts:
            raise self._error("its reply is not one of an OpenAI-compatible server; does the URL end in /v1?")
        return [Answer((), str(text).strip(), choice.finish_reason != "length") for text, choice in zip(texts, choices, strict=True)]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The client's errors in our words. What the server wrote is left out: it may quote the question."""
        sdk = self._sdk
        try:
            yield
        except sdk.APITimeoutError:
            raise self._error(f"no reply within {TIMEOUT:g} s; is the server busy, or still loading?") from None
        except sdk.APIConnectionError:
            raise self._error("nothing answers there; start the server, or check host and port") from None
        except sdk.APIStatusError as error:
            raise self._status(error.status_code) from None
        except (sdk.OpenAIError, AttributeError, TypeError, ValueError):
            raise self._error("its reply is not one of an OpenAI-compatible server; does the URL end in /v1?", Failed) from None

    def _status(self, code: int) -> EndpointError:
        tries = f" after {RETRIES + 1} tries"
        if 300 <= code < 400:
            return self._error(f"it sends on to another address ({code}), and questions go to none but the one you named; name that one")
        if code in (401, 403) and self.config.key_env:
            return self._error(f"it refuses the key in {self.config.key_env} ({code})")
        if code in (401, 403):
            return self._error(f"it wants a key: name its environment variable, --key-env ({code})")
        if code in (400, 422):
            way = "is --model right, and does its template take a system message? Its log says more"
            return self._error(f"it does not take the request ({code}); {way}", Refused)
        if code == 404:
            names = f"the model {self.config.model!r}" if self.config.model else "the model"
            way = "try --model NAME, --api completions, or a URL ending in /v1"
            return self._error(f"it knows neither {names} nor this path ({code}); {way}", Failed)
        if code == 429:
            return self._error(f"too many requests{tries} ({code}); wait, or raise the quota")
        return self._error(f"it failed{tries} ({code}); its log says why", Failed)

    def _error(self, what: str, kind: type[EndpointError] = EndpointError) -> EndpointError:
        return kind(f"endpoint {self.config.shown}: {what}")


def _text(choice: Any) -> str | None:
    """What was said, `None` where there is no such thing. A refusal that stands in its own field is what was said."""
    if hasattr(choice, "message"):
        message = choice.message
        return None if message is None else str(getattr(message, "content", None) or getattr(message, "refusal", None) or "")
    text = getattr(choice, "text", None)
    return None if text is None else str(text)


def _sdk() -> Any:
    """The `openai` package, silenced: at its lower levels it logs whole requests."""
    with needed("--endpoint", "endpoint", "openai"):
        import openai
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return openai
