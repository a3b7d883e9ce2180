"""Sparse fine-tuning of transformer language models: the method, usable alone.

What stands in `__all__` is imported when it is first asked for, so that `import pst_core` loads
neither torch nor transformers; packed checkpoints load in transformers once both are imported.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pst_core.loading import load

__all__ = ["load"]

_HOMES = {"load": "pst_core.loading"}

_PLUGIN = "pst_core.transformers_plugin"
# The module that maps a checkpoint's quant_method to a class; every from_pretrained imports it.
_REGISTRY = "transformers.quantizers.auto"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    # Bound here, the name is found without this function from now on, and wins over a submodule
    # of the same name, which the import has just bound.
    globals()[name] = value
    return value


class _PluginLoader(importlib.abc.Loader):
    """Loads transformers' registry as its own loader would, then has the plugin enter itself."""

    def __init__(self, spec: importlib.machinery.ModuleSpec, loader: importlib.abc.Loader) -> None:
        self._spec = spec
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # From here on the module looks as if this loader had never been there.
        self._spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        importlib.import_module(_PLUGIN)


class _PluginFinder(importlib.abc.MetaPathFinder):
    """Waits for the import of transformers' registry."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _REGISTRY:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PluginLoader(spec, spec.loader)
        return spec


if _REGISTRY in sys.modules:
    importlib.import_module(_PLUGIN)
else:
    sys.meta_path.insert(0, _PluginFinder())
