"""Configured templates: what they ask for in normal form, and what is no template."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from isol8.config import Config, InvalidConfig, Template, load_config, save_template, saved_templates
from isol8.model import Limits, Network, SandboxSpec
from isol8.service.templates import Templates, template_sets
from tests.unit.scripted_engine import ScriptedEngine, until

SPEC = SandboxSpec(
    runtime="python",
    limits=Limits(memory_bytes=1 << 26, cpus=1, pids=9, sandbox_bytes=1 << 20, tmp_bytes=1 << 20),
)


def config(tmp_path: Path, **template: Any) -> Config:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"templates": {"mine": template}}))
    return load_config(str(path), {})


def test_in_normal_form(tmp_path: Path) -> None:
    (found,) = template_sets(
        config(tmp_path, runtime="python", packages=["NumPy", "a>=1, <2"], preimport=["numpy.fft"])
    )
    assert (found.name, found.requirements, found.modules, found.size) == (
        "mine",
        ("a<2,>=1", "numpy"),
        ("numpy.fft",),
        2,
    )


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ({"runtime": "python", "packages": ["-r x"]}, r"templates\.mine\.packages\[0\] is not"),
        ({"runtime": "bash", "packages": ["jq"]}, r"templates\.mine\.packages is not available for bash"),
        ({"runtime": "cobol", "packages": ["a"]}, r"templates\.mine\.runtime must be one of python"),
        (
            {"runtime": "python", "packages": ["a"], "preimport": ["a; b"]},
            r"mine\.preimport must hold names",
        ),
        ({"runtime": "node", "packages": ["a"], "preimport": ["a"]}, r"templates\.mine\.preimport is for python"),
    ],
)
def test_what_is_no_template(tmp_path: Path, template: Any, sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        template_sets(config(tmp_path, **template))


def test_saved_ones(tmp_path: Path) -> None:
    assert saved_templates(str(tmp_path)) == {}
    first = Template(runtime="python", packages=("numpy",), preimport=("numpy",))
    second = Template(runtime="node", packages=("lodash",), pool=1)
    save_template(str(tmp_path), "one", first)
    save_template(str(tmp_path), "two", second)
    save_template(str(tmp_path), "one", first)
    assert saved_templates(str(tmp_path)) == {"one": first, "two": second}
    (tmp_path / "templates.json").write_text('{"one": {"runtime": 1}}')
    with pytest.raises(InvalidConfig, match=r"templates\.json"):
        saved_templates(str(tmp_path))


async def test_what_a_live_sandbox_cannot_change_is_made_on_the_spot() -> None:
    engine = ScriptedEngine()
    templates = Templates(engine, {"python": (SPEC, 3)}, None, (), 0)
    templates.start()
    await until(lambda: len(engine.live) == 3 and not engine.making)
    smaller = dataclasses.replace(SPEC, limits=dataclasses.replace(SPEC.limits, pids=3))
    filtered = dataclasses.replace(SPEC, network=Network.FILTERED)
    sandboxes = [await templates.acquire(spec) for spec in (smaller, filtered)]
    assert [sandbox.id for sandbox in sandboxes] == ["sandbox-001", "sandbox-002"]
    assert sandboxes[1].spec.network is Network.FILTERED
    sandboxes.append(await templates.acquire(dataclasses.replace(SPEC, network=Network.HOST)))
    assert sandboxes[2].spec.network is Network.HOST
    for sandbox in sandboxes:
        await engine.destroy(sandbox)
    await templates.close()
    assert not engine.live
