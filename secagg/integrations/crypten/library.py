"""CrypTen, imported under a torch of today: what its last release misses is put in its place here, and nowhere else.

CrypTen 0.4.1 is of 2022. Its list of requirements names `sklearn`, which no longer installs, and packages that only its
examples use. So it is installed without them, and what it does import is in the extra. When it is imported it looks for

  torch.onnx._internal.registration   which torch keeps elsewhere from 2.9 on
  onnx                                to read models; a module that says so stands in where it is not installed

Both are there while CrypTen is imported, and gone after: other packages do not see them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

from secagg.errors import UsageError

VERSION: Final = "0.4.1"
_INSTALL: Final = f'pip install "secagg[crypten]", then pip install --no-deps crypten=={VERSION}'
_MOVED: Final = "torch.onnx._internal.registration"
_MOVED_TO: Final = "torch.onnx._internal.torchscript_exporter.registration"


def load() -> tuple[Any, Any]:
    """Return the modules torch and crypten.

    Raises:
      UsageError: one is not installed, or another version of CrypTen is.
    """
    try:
        import torch

        with _missing_modules():
            import crypten
    except ImportError as error:
        raise UsageError(
            f"CrypTen cannot be imported ({error}); install what it needs and then CrypTen itself: {_INSTALL}"
        ) from error
    if crypten.__version__ != VERSION:
        raise UsageError(
            f"expected CrypTen {VERSION}, whose insides this adapter knows, got {crypten.__version__}; {_INSTALL}"
        )
    return torch, crypten


@contextlib.contextmanager
def _missing_modules() -> Iterator[None]:
    """Give CrypTen, while it is imported, the modules that it would miss."""
    lent: dict[str, ModuleType] = {}
    if "crypten" not in sys.modules:
        if importlib.util.find_spec(_MOVED) is None:
            lent[_MOVED] = importlib.import_module(_MOVED_TO)
        if importlib.util.find_spec("onnx") is None:
            lent["onnx"], lent["onnx.numpy_helper"] = ModuleType("onnx"), ModuleType("onnx.numpy_helper")
            for module in (lent["onnx"], lent["onnx.numpy_helper"]):
                module.__getattr__ = _no_onnx  # type: ignore[method-assign]
            lent["onnx"].__dict__["numpy_helper"] = lent["onnx.numpy_helper"]
    sys.modules.update(lent)
    try:
        yield
    finally:
        for name in lent:
            del sys.modules[name]


def _no_onnx(name: str) -> Any:
    if name.startswith("__"):  # what the import system asks every module for
        raise AttributeError(name)
    raise UsageError(
        "CrypTen reads no models here: onnx is not installed; build the model of crypten.nn's layers"
    )
