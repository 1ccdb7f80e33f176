"""The real registries, with whatever settings this machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.support.calls import stdout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real(serve: Serve, data_dir: Path) -> Iterator[httpx.Client]:
    """A client of a server that installs from where this machine does."""
    with serve(environment={"ISOL8_DATA_DIR": str(data_dir)}).client() as made:
        yield made


def test_numpy_and_pandas(real: httpx.Client) -> None:
    code = """
import numpy, pandas
square = numpy.arange(9.0).reshape(3, 3)
print((square @ square).trace(), numpy.linalg.inv(numpy.eye(300)).sum())
print(pandas.DataFrame({"a": [1, 2], "b": [3, 4]}).sum().to_dict())
"""
    for _ in range(2):
        assert stdout(real, code, installPackages=["numpy", "pandas"]) == "180.0 300.0\n{'a': 3, 'b': 7}\n"


def test_numpy_in_child_processes(real: httpx.Client) -> None:
    code = """
import multiprocessing, numpy
def multiply(n): return float((numpy.ones((n, n)) @ numpy.ones((n, n))).sum())
if __name__ == "__main__":
    numpy.ones((200, 200)) @ numpy.ones((200, 200))
    print(multiprocessing.Pool(2).map(multiply, [10, 200]))
"""
    assert stdout(real, code, installPackages=["numpy", "pandas"]) == "[1000.0, 8000000.0]\n"


def test_requests(real: httpx.Client) -> None:
    code = "import requests; print(requests.Request('GET', 'http://a.test/', params={'b': 1}).prepare().url)"
    assert stdout(real, code, installPackages=["requests>=2,<3"]) == "http://a.test/?b=1\n"


def test_lodash(real: httpx.Client) -> None:
    code = "const _ = require('lodash'); console.log(JSON.stringify(_.chunk([1, 2, 3], 2)))"
    assert stdout(real, code, "node", installPackages=["lodash@^4"]) == "[[1,2],[3]]\n"
    assert stdout(real, code.replace("const _ = require('lodash')", "import _ from 'lodash'"), "deno",
                  installPackages=["lodash@^4"]) == "[[1,2],[3]]\n"  # fmt: skip


def test_a_typescript_package_in_bun(real: httpx.Client) -> None:
    code = """
import { z } from 'zod'
const User = z.object({ name: z.string() })
type User = z.infer<typeof User>
const user: User = User.parse({ name: 'Ada', more: 1 })
console.log(user.name, User.safeParse({}).success)
"""
    assert stdout(real, code, "bun", installPackages=["zod"]) == "Ada false\n"
