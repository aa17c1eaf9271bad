"""Parses the body of a response: a chat completion, the chunks of a stream, or an error."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pairuni.chat.quoting import one_line, quoted
from pairuni.chat.reasoning import without_reasoning
from pairuni.chat.request import Answer

MOST_BYTES = 1 << 26
"""Longest response body that is read."""

_LONGEST_QUOTE = 300
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_text")
_ABORTED = ("error", "abort", "aborted", "cancelled", "canceled", "failed", "malformed_function_call")
_RATE = re.compile(r"rate.?limit|too.many.requests|resource.?exhausted|quota", re.I)
_HTML = re.compile(
    r"\s*(?:<!--.{0,2000}?-->\s*)?<(?:!doctype|html|head|body|title|script|meta|\?xml|h1|center)\b",
    re.I | re.S,
)
_LONE = re.compile(r"[\ud800-\udfff]")


class MalformedResponse(ValueError):
    """The body is not a complete chat completion."""


class NoAnswer(ValueError):
    """A chat completion with neither a reply nor a refusal. It is never stored."""

    def __init__(self, reason: str, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        super().__init__(reason)
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens


class EmbeddedError(ValueError):
    """An error in place of a chat completion. status: the HTTP status it stands for, 502 if it names none."""

    def __init__(self, error: ErrorDetails) -> None:
        super().__init__(error.message)
        self.error = error
        code = int(error.code) if re.fullmatch(r"[45]\d\d", error.code) else None
        about = f"{error.code} {error.kind} {error.message}"
        limited = 429 if _RATE.search(about) else None
        refused = 400 if error.parameter or "invalid_request" in about else None
        self.status = code or limited or refused or 502


@dataclass(frozen=True)
class ErrorDetails:
    """An error's message, code, type and parameter; those that it lacks are empty."""

    message: str
    code: str = ""
    kind: str = ""
    parameter: str = ""


def decode_body(data: bytes, content_type: str = "") -> str:
    """A body as text: by its byte order mark, as UTF-8 regardless of the header, by its header, or as Latin-1."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    named = re.search(r"charset=[\"']?([\w.:-]+)", content_type, re.I)
    try:
        return data.decode(named[1] if named else "latin-1", errors="replace")
    except (LookupError, UnicodeError):
        return data.decode("latin-1")


def parse_response(text: str) -> Answer:
    """The answer in the body of a response, which may be a stream of events though none was requested.

    Raises MalformedResponse, NoAnswer and EmbeddedError.
    """
    text = text.strip()
    try:
        body, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        body, end = None, 0
    rest = text[end:].strip()
    if end and (not rest or re.fullmatch(r"(?:data:\s*\[DONE\]\s*)+", rest)):
        return parse_completion(body)
    return parse_completion(_assembled(text))


def parse_completion(body: Any) -> Answer:
    """The answer in the body of a chat completion. Raises MalformedResponse, NoAnswer and EmbeddedError."""
    if not isinstance(body, Mapping):
        raise MalformedResponse(f"it is {_quote(json.dumps(body))}")
    if body.get("error"):
        raise EmbeddedError(error_details(body))
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if choice is None and isinstance(choices, list | None) and "choices" in body:
        raise NoAnswer("a completion without choices", *_usage(body))
    if not isinstance(choice, Mapping):
        raise MalformedResponse(_without_choices(body))
    message = choice.get("message")
    if message is None and isinstance(choice.get("text"), str):
        message = {"content": choice["text"]}
    if not isinstance(message, Mapping):
        raise MalformedResponse("it has no message")
    if choice.get("error") or message.get("error"):
        raise EmbeddedError(error_details(choice if choice.get("error") else message))
    text, refusal, elsewhere = _content(message)
    finish = str(choice.get("finish_reason") or "")
    sent, received = _usage(body)
    answer: Answer = {
        "text": _LONE.sub("\ufffd", text),
        "finish": "content_filter" if finish.lower().startswith("content_filter") else finish,
        "refusal": refusal,
        "id": str(body.get("id") or ""),
        "prompt_tokens": sent,
        "completion_tokens": received,
    }
    if reason := why_no_answer(answer, elsewhere):
        raise NoAnswer(reason, sent, received)
    return answer


def why_no_answer(answer: Answer, elsewhere: Mapping[str, str] | None = None) -> str | None:
    """The reason why a completion has no answer, or None if it has one. A refusal is an answer.

    elsewhere: texts in other fields of the message, by name.
    """
    finish = str(answer.get("finish") or "")
    if finish.lower() in _ABORTED:
        return f"a reply that ended with {finish!r}: {_quote(str(answer.get('text') or ''))}"
    text = str(answer.get("text") or "").strip()
    if answer.get("refusal") or finish == "content_filter" or without_reasoning(text).strip():
        return None
    if finish == "length":
        return "no reply, because reasoning used up the limit of tokens; raise max_tokens, or let the model reason less"
    for name, said in (elsewhere or {}).items():
        return (
            f"an empty reply, with its text in {name} ({_quote(said)}); start the server without a reasoning parser, "
            "or with thinking turned off for this model"
        )
    return f"reasoning without a reply ({_quote(text)})" if text else "an empty reply"


def parse_error(text: str) -> ErrorDetails:
    """The error in a body of JSON, HTML or plain text."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        said = f"a page of HTML {html_title(text)}".rstrip() if is_html(text) else one_line(text)
        return ErrorDetails(said[:_LONGEST_QUOTE])
    return error_details(values[0] if isinstance(values, list) and len(values) == 1 else values)


def error_details(values: Any) -> ErrorDetails:
    """The error in a JSON body: {"error": {...}}, {"error": "..."}, {"detail": ...} or {"message": ...}."""
    error = values.get("error", values) if isinstance(values, Mapping) else values
    if not isinstance(error, Mapping):
        return ErrorDetails(one_line(str(error))[:_LONGEST_QUOTE])
    said = error.get("message") or error.get("detail") or json.dumps(error)
    inner = error.get("metadata")
    if isinstance(inner, Mapping) and inner.get("raw"):  # the provider's error behind a router
        said = f"{said}: {inner['raw']}"
    code = next((error[name] for name in ("code", "status", "status_code") if error.get(name)), "")
    return ErrorDetails(
        one_line(str(said))[:_LONGEST_QUOTE],
        str(code),
        str(error.get("type") or ""),
        str(error.get("param") or ""),
    )


def is_html(text: str) -> bool:
    """Whether a body is an HTML page, regardless of its header."""
    return _HTML.match(text) is not None


def html_title(page: str) -> str:
    """The title of an HTML page, in quotes; empty if it has none."""
    title = re.search(r"<title[^<>]{0,200}>([^<]{1,200})", page, re.I)
    return _quote(title[1]) if title else ""


def _assembled(text: str) -> Any:
    """The completion in events of a stream or lines of JSON, as one body. Raises MalformedResponse."""
    chunks: list[Any] = []
    done = False
    for data in _events(text):
        if data.strip() == "[DONE]":
            done = True
            continue
        try:
            chunks.append(json.loads(data))
        except (ValueError, RecursionError):
            raise MalformedResponse(f"it is not complete JSON: {_quote(text)}") from None
    if not chunks:
        raise MalformedResponse(f"it is not complete JSON: {_quote(text)}")
    return _joined_chunks(chunks, done)


def _events(text: str) -> Iterable[str]:
    """The data of each event; a line of JSON without "data:" counts as one."""
    lines: list[str] = []
    for line in [*re.split(r"\r\n|\n|\r", text), ""]:
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif line.startswith("{"):
            yield line
        elif not line and lines:
            # some servers omit the blank lines between events, so that each line is one
            joined = "\n".join(lines)
            yield from [joined] if len(lines) == 1 or not _each_is_json(lines) else lines
            lines = []
        elif line and not re.match(r":|event:|id:|retry:", line):
            raise MalformedResponse(f"it is not complete JSON: {_quote(text)}")


def _each_is_json(lines: Iterable[str]) -> bool:
    return all(line.strip() == "[DONE]" or line.strip()[:1] == "{" for line in lines)


def _joined_chunks(chunks: list[Any], done: bool) -> dict[str, Any]:
    """The chunks of a stream as one body. Raises MalformedResponse if the stream is incomplete."""
    body: dict[str, Any] = {}
    message: dict[str, Any] = {}
    finish = None
    streamed = False
    for chunk in chunks:
        if not isinstance(chunk, Mapping):
            raise MalformedResponse(f"it is {_quote(json.dumps(chunk))}")
        if chunk.get("error"):
            return dict(chunk)
        body.update({name: chunk[name] for name in ("id", "usage") if chunk.get(name)})
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if isinstance(choice.get("message"), Mapping):
            return dict(chunk)
        streamed = streamed or "choices" in chunk
        finish = choice.get("finish_reason") or finish
        for name, said in (choice.get("delta") or {}).items():
            if name in ("content", "refusal", *_REASONING) and said:
                said = said if isinstance(said, str) else _parts(said)[0]
                message[name] = message.get(name, "") + said
    if not streamed:
        return dict(chunks[-1])
    if not finish and not done:
        raise MalformedResponse("the stream breaks off")
    return {**body, "choices": [{"message": {"content": None, **message}, "finish_reason": finish}]}


def _content(message: Mapping[str, Any]) -> tuple[str, str | None, dict[str, str]]:
    """(text, refusal, texts in other fields)."""
    content = message.get("content")
    refusal = message.get("refusal")
    elsewhere = {name: _parts(message[name])[0] for name in _REASONING if message.get(name)}
    if isinstance(content, str) or content is None:
        text = content or ""
    elif isinstance(content, list) or (isinstance(content, Mapping) and "text" in content):
        text, refused, thought = _parts(content)
        refusal = refusal or refused or None
        elsewhere |= {"parts of reasoning": thought} if thought else {}
    else:  # the server parsed the model's JSON
        text = json.dumps(content)
    calls = message.get("tool_calls") or message.get("function_call")
    if calls:
        elsewhere["a tool call"] = json.dumps(calls)
    return text, str(refusal) if refusal else None, {name: said for name, said in elsewhere.items() if said}


def _parts(content: Any) -> tuple[str, str, str]:
    """(text, refusal, reasoning) of content in parts."""
    text: list[str] = []
    refusal: list[str] = []
    reasoning: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, Mapping):
            kind = str(part.get("type") or "text")
            said = next(
                (part[name] for name in ("text", "refusal", "thinking", "reasoning") if part.get(name)), ""
            )
            said = said if isinstance(said, str) else _parts(said)[0]
            thinking = "think" in kind or "reason" in kind
            (reasoning if thinking else refusal if kind == "refusal" else text).append(said)
    return "".join(text), "".join(refusal), "".join(reasoning)


def _usage(body: Mapping[str, Any]) -> tuple[int, int]:
    usage = body.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}

    def count(name: str) -> int:
        try:
            return max(0, int(counts.get(name) or 0))
        except (TypeError, ValueError, OverflowError):
            return 0

    return count("prompt_tokens"), count("completion_tokens")


def _without_choices(body: Mapping[str, Any]) -> str:
    told = any(name in body for name in ("message", "detail", "code"))
    return f"it says {error_details(body).message}" if told else "it has no choices"


def _quote(text: str) -> str:
    return quoted(text, 120)
