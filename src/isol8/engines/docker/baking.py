"""Images of templates: the server's image, and on top of it a layer of packages.

A container that is to have the layer is made from such an image, if there is one, so that nothing has to be mounted
into it. The image says in labels which layer it holds and on which image it stands: a layer's name is the digest of its
content, so it is what it says, and with another image below it is not used. Labels alone are not believed: whoever
offers an image for download can write any, but not give it a name of ours on this daemon.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aiodocker import Docker

from isol8.engines.docker.building import build_image
from isol8.engines.docker.client import DaemonFailure, translated

LAYER_LABEL = "isol8.layer"
_BASE_LABEL = "isol8.base"
_TEMPLATE_LABEL = "isol8.template"
_NAME = "isol8/template"


async def bake(docker: Docker, base: tuple[str, str], template: str, layer: tuple[str, str], tree: int) -> str:
    """Make the image of a template, and remove those that it had before and nobody uses; its name. `base` is the name
    and the id of the image below it, `layer` the name of the layer and where it is seen, `tree` its open directory.

    Raises DaemonFailure.
    """
    below, identity = base
    name, target = layer
    content = _digest(identity, name, target)
    tag, owner = f"{_NAME}:{content}", _digest(template)
    labels = {LAYER_LABEL: name, _BASE_LABEL: identity, _TEMPLATE_LABEL: owner}
    if name not in await baked(docker, identity):
        text = "".join(f"LABEL {key}={value}\n" for key, value in labels.items())
        await build_image(docker, tag, f"FROM {below}\nCOPY tree/ {target}/\n{text}", content, {"tree": tree})
    for each in await _labelled(docker, f"{_TEMPLATE_LABEL}={owner}"):
        if each["Labels"][LAYER_LABEL] != name or each["Labels"][_BASE_LABEL] != identity:
            await _remove(docker, each["Id"])
    return tag


async def baked(docker: Docker, base: str) -> dict[str, str]:
    """The images that stand on the one with the id `base`, by the layers that they hold. Raises DaemonFailure."""
    found = await _labelled(docker, f"{_BASE_LABEL}={base}")
    return {each["Labels"][LAYER_LABEL]: each["Id"] for each in found if LAYER_LABEL in each["Labels"]}


async def _labelled(docker: Docker, label: str) -> list[dict[str, Any]]:
    """Those of our name, as they were never fetched."""
    with translated("images could not be listed"):
        found = await docker.images.list(filters=json.dumps({"label": [label]}))
    return [each for each in found if any(map(_is_ours, each["RepoTags"] or ()))]


def _is_ours(tag: str) -> bool:
    return tag.removeprefix("localhost/").startswith(f"{_NAME}:")  # Podman's prefix for what was made here


async def _remove(docker: Docker, image: str) -> None:
    try:
        with translated("an image could not be removed"):
            await docker.images.delete(image)
    except DaemonFailure as error:
        if error.status not in (404, 409):  # 409: a container is made from it
            raise


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
