"""What a request becomes on the wire."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image

from pairuni.chat.dialect import Dialect
from pairuni.chat.image import MemoryImage
from pairuni.chat.request import PlainRequest

IMAGE = Image.new("RGB", (40, 20), "red")


def test_texts_and_images_keep_their_order() -> None:
    request = PlainRequest(
        model="m",
        content=("before", MemoryImage(IMAGE), "after", MemoryImage(IMAGE, 10)),
        max_tokens=7,
    )
    body = Dialect().body(request)
    assert set(body) == {"model", "messages", "max_completion_tokens"}
    (message,) = body["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "image_url", "text", "image_url"]
    sizes = []
    for part in message["content"][1::2]:
        kind, _, data = part["image_url"]["url"].partition(";base64,")
        assert kind == "data:image/png"
        sizes.append(Image.open(BytesIO(base64.b64decode(data))).size)
    assert sizes == [(40, 20), (10, 5)]
    assert IMAGE.size == (40, 20)


def test_json_is_asked_for_where_there_is_a_schema() -> None:
    schema = {"type": "object", "properties": {"score": {"type": "number"}}}
    request = PlainRequest(
        model="m", system="s", content=("judge",), schema=schema, name="Mark", max_tokens=7, temperature=0.0
    )
    body = Dialect().body(request)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["temperature"] == 0.0
    assert body["response_format"]["json_schema"] == {"name": "Mark", "strict": True, "schema": schema}
    assert Dialect("object", "max_tokens").body(request)["response_format"] == {"type": "json_object"}
    assert "response_format" not in Dialect("text").body(request)
