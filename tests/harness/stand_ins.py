"""Where lmms-eval and VLMEvalKit are not installed: as much of their model classes as the plug-ins touch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any


class Lmms:
    """lmms_eval.api.model.lmms"""

    is_simple = True

    def __init__(self) -> None:
        self._rank, self._world_size = 0, 1
        self.cache_hook = CacheHook()
        self.task_dict: dict[str, Any] = {}

    def clean(self) -> None:
        pass


class CacheHook:
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def add_partial(self, kind: str, request: Any, result: Any) -> None:
        self.seen.append((kind, request, result))


@dataclass
class TokenCounts:
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass
class GenerationResult:
    text: Any
    token_counts: TokenCounts | None = None


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None


class VlmBase:
    """vlmeval.vlm.base.BaseModel"""

    def __init__(self) -> None:
        self.dump_image_func = None

    def generate(self, message: list[dict[str, Any]], dataset: str | None = None) -> str:
        return self.generate_inner(message, dataset)


class VlmJanus(VlmBase):
    """vlmeval.vlm.janus.Janus, which would need the janus package to be made"""

    def __init__(self) -> None:
        raise AssertionError("VLMEvalKit's own loading must not run")


def lmms_eval_modules() -> dict[str, ModuleType]:
    return {
        "lmms_eval": _module("lmms_eval"),
        "lmms_eval.api": _module("lmms_eval.api"),
        "lmms_eval.api.model": _module("lmms_eval.api.model", lmms=Lmms),
        "lmms_eval.api.instance": _module(
            "lmms_eval.api.instance", GenerationResult=GenerationResult, TokenCounts=TokenCounts
        ),
        "lmms_eval.models": _module("lmms_eval.models"),
        "lmms_eval.models.registry_v2": _module("lmms_eval.models.registry_v2", ModelManifest=ModelManifest),
    }


def vlmeval_modules() -> dict[str, ModuleType]:
    return {
        "vlmeval": _module("vlmeval"),
        "vlmeval.config": _module("vlmeval.config", supported_VLM={"Janus-Pro-1B": None}),
        "vlmeval.vlm": _module("vlmeval.vlm"),
        "vlmeval.vlm.base": _module("vlmeval.vlm.base", BaseModel=VlmBase),
        "vlmeval.vlm.janus": _module("vlmeval.vlm.janus", Janus=VlmJanus),
    }


def put(monkeypatch: Any, modules: dict[str, ModuleType], *, loaded_anew: str) -> None:
    """Install modules for one test and let ``loaded_anew`` be imported on top of them."""
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, loaded_anew, raising=False)
    # what the test imports under this name must not outlive it
    monkeypatch.setitem(sys.modules, loaded_anew, ModuleType(loaded_anew))
    del sys.modules[loaded_anew]


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    module.__path__ = []
    return module
