"""The part of the reader that is in C: there wherever it can be, the image included."""

import re
import shutil
import sysconfig
from pathlib import Path

import pytest

from pst_core.formats.placing import HAS_C

ROOT = Path(__file__).parents[2]


def test_it_is_built_where_there_is_a_compiler() -> None:
    # An optional extension that does not compile is left out without a word.
    compiler = str(sysconfig.get_config_var("CC")).split()[0]
    header = Path(sysconfig.get_path("include"), "Python.h")
    if shutil.which(compiler) is None or not header.exists():
        pytest.skip("there is no C compiler here")
    assert HAS_C


def test_an_image_is_not_built_without_it() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (stage,) = re.findall(r"^FROM \S+ AS package$(.*?)^FROM", dockerfile, re.DOTALL | re.MULTILINE)
    in_order = ("apt-get install", "gcc=", "libc6-dev=", "pip wheel", "ls /built/")
    assert re.search(".*".join(map(re.escape, in_order)), stage, re.DOTALL)
    assert r"/_place.*.so" in stage
