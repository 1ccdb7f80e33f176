"""What goes into an image of a template: the tree as it is, and nothing that a link in it leads to."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from isol8.engines.docker.building import _pack


def test_a_tree_is_packed_as_it_is(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    tree = tmp_path / "tree"
    (tree / "package" / "empty").mkdir(parents=True)
    (tree / "package" / "module.py").write_text("x = 1")
    (tree / "package" / "run").write_text("#!/bin/sh")
    (tree / "package" / "run").chmod(0o755)
    (tree / "package" / "alias").symlink_to("module.py")
    (tree / "away").symlink_to(outside)
    (tree / "file").symlink_to(outside / "secret")
    os.mkfifo(tree / "pipe")
    packed = io.BytesIO()
    directory = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _pack(packed, {"tree": directory})
    finally:
        os.close(directory)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        found = {entry.name: entry for entry in archive}
        assert {name for name, entry in found.items() if entry.isdir()} == {
            "tree",
            "tree/package",
            "tree/package/empty",
        }
        links = {name: entry.linkname for name, entry in found.items() if entry.issym()}
        assert links == {"tree/package/alias": "module.py", "tree/away": str(outside), "tree/file": f"{outside}/secret"}
        files = {name: archive.extractfile(entry) for name, entry in found.items() if entry.isreg()}
        assert {name: file.read() for name, file in files.items() if file} == {
            "tree/package/module.py": b"x = 1",
            "tree/package/run": b"#!/bin/sh",
        }
    assert found["tree/package/run"].mode == 0o755
    assert {(entry.uid, entry.gid) for entry in found.values()} == {(0, 0)}
