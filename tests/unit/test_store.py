"""The store of layers: what comes in is untrusted, what is there is checked, what is in use stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isol8.packages.store import Held, Store
from isol8.packages.unpacking import Bounds, Rejected
from tests.support.layer_stream import Exactly, entry, files, stream

KEY = "python-3.11-x86_64-abc"
BOUNDS = Bounds(layer_bytes=1 << 20, layer_files=50, total_bytes=4 << 20)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path / "store")
    return Store(BOUNDS)


def add(store: Store, data: bytes, key: str = KEY) -> Held:
    return store.add(key, Exactly(data))


def test_a_layer_comes_in_and_is_found(store: Store) -> None:
    data = stream(
        entry(b"d", "a"),
        entry(b"f", "a/b.py", b"x = 1"),
        entry(b"x", "run", b"#!"),
        entry(b"l", "a/link", b"../run"),
        about={"boots": False},
    )
    held = add(store, data)
    tree = Path(held.stored.name, "tree")
    assert (tree / "a" / "b.py").read_bytes() == b"x = 1"
    assert (tree / "a" / "link").read_bytes() == b"#!"
    assert [(tree / name).lstat().st_mode & 0o7777 for name in ("a", "a/b.py", "run")] == [0o755, 0o644, 0o755]
    assert held.stored.about == {"boots": False}
    held.close()
    found, changed = store.find(KEY)
    assert found is not None
    assert (found.stored.name, changed) == (held.stored.name, False)
    found.close()
    assert store.find("python-3.11-x86_64-ab") == (None, False)
    assert [path.name for path in Path().iterdir()] == [held.stored.name]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (stream(entry(b"f", "../evil", b"x")), "path"),
        (stream(entry(b"f", "/etc/evil", b"x")), "path"),
        (stream(entry(b"d", "a"), entry(b"f", "a/../../evil", b"x")), "path"),
        (stream(entry(b"d", "."), entry(b"f", "x", b"")), "path"),
        (stream(entry(b"f", "a//b", b"x")), "path"),
        (stream(entry(b"f", "", b"x")), "path"),
        (stream(entry(b"f", "a/", b"x")), "path"),
        (stream(entry(b"f", b"a\0b", b"x")), "path"),
        (stream(entry(b"f", "missing/b", b"x")), "path"),
        (stream(entry(b"f", "a" * 256, b"x")), "path"),
        (stream(entry(b"d", "a"), entry(b"f", "a/" * 600 + "b", b"x")), "path"),
        (stream(entry(b"l", "out", b"/etc"), entry(b"f", "out/evil", b"x")), "link"),
        (stream(entry(b"l", "out", b"../.."), entry(b"f", "out/evil", b"x")), "link"),
        (stream(entry(b"d", "a"), entry(b"l", "a/out", b"../../x")), "link"),
        (stream(entry(b"l", "up", b"..")), "link"),
        (stream(entry(b"l", "self", b".")), "link"),
        (stream(entry(b"l", "nothing", b"")), "link"),
        (stream(entry(b"d", "a"), entry(b"l", "in", b"a"), entry(b"f", "in/evil", b"x")), "path"),
        (stream(entry(b"f", "a", b"x"), entry(b"f", "a", b"y")), "two files"),
        (stream(entry(b"l", "a", b"b"), entry(b"f", "a", b"y")), "two files"),
        (stream(entry(b"f", "a", b"x"), entry(b"d", "a")), "two files"),
        (stream(entry(b"c", "device", b"x")), "not a layer"),
        (stream(entry(b"\0", "zero", b"x")), "not a layer"),
        (stream(entry(b"f", "big", size=2 << 20)), "layerSize"),
        (stream(entry(b"f", "huge", size=(1 << 64) - 1)), "layerSize"),
        (stream(*(entry(b"f", f"n{n}", b"x" * 22_000) for n in range(49))), "layerSize"),
        (stream(*(entry(b"f", f"n{n}") for n in range(51))), "layerFiles"),
        (stream(about=[1]), "not a layer"),
        (stream(entry(b"a", "", b"{", 1)), "not a layer"),
        (stream(entry(b"a", "", b"", 1 << 40)), "too much"),
    ],
)  # fmt: skip
def test_what_is_not_a_layer_leaves_nothing(store: Store, data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=reason):
        add(store, data)
    assert list(Path().iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("cut", [1, 11, 14, 40])
def test_a_build_that_ends_half_way_leaves_nothing(store: Store, cut: int) -> None:
    data = stream(entry(b"d", "a"), entry(b"f", "a/b", b"0123456789" * 5))
    with pytest.raises(EOFError):
        add(store, data[:-cut])
    assert list(Path().iterdir()) == []


def change_content(tree: Path) -> None:
    (tree / "a" / "b.py").write_text("x = 2")


def change_nothing_but_a_name(tree: Path) -> None:
    (tree / "a" / "b.py").rename(tree / "a" / "c.py")


def add_a_file(tree: Path) -> None:
    (tree / "sitecustomize.py").write_text("import os")


def remove_a_file(tree: Path) -> None:
    (tree / "a" / "b.py").unlink()


def make_executable(tree: Path) -> None:
    (tree / "a" / "b.py").chmod(0o755)


def turn_into_a_link(tree: Path) -> None:
    (tree / "a" / "b.py").unlink()
    (tree / "a" / "b.py").symlink_to("/etc/passwd")


def change_what_is_said(tree: Path) -> None:
    about = tree.parent / "layer.json"
    about.write_text(about.read_text().replace("false", "true "))


@pytest.mark.parametrize(
    "tamper",
    [
        change_content,
        change_nothing_but_a_name,
        add_a_file,
        remove_a_file,
        make_executable,
        turn_into_a_link,
        change_what_is_said,
    ],
)
def test_a_changed_layer_is_not_used(store: Store, tamper: object) -> None:
    data = stream(entry(b"d", "a"), entry(b"f", "a/b.py", b"x = 1"), about={"boots": False})
    held = add(store, data)
    held.close()
    assert callable(tamper)
    tamper(Path(held.stored.name, "tree"))
    later = Store(BOUNDS)  # of the next server: it has not seen this layer yet
    assert later.find(KEY) == (None, True)
    assert list(Path().iterdir()) == []
    again = add(later, data)
    assert Path(again.stored.name, "tree", "a", "b.py").read_text() == "x = 1"
    again.close()


def test_room_is_made_with_the_least_recently_used(store: Store) -> None:
    keys = [f"key-{number}" for number in range(4)]
    for key in keys:
        add(store, files({"data": key.encode() * 100_000}), key).close()
        os.utime(next(Path().glob(f"{key}-*")), (1_000_000_000, 1_000_000_000 + keys.index(key)))
    found, _ = store.find(keys[0])  # used again
    assert found is not None
    found.close()
    for number in range(4, 7):
        add(store, files({"data": b"x" * 900_000}), f"key-{number}").close()
    left = {path.name.rpartition("-")[0] for path in Path().iterdir()}
    assert keys[0] in left
    assert keys[1] not in left
    assert sum(file.stat().st_size for file in Path().rglob("data")) <= BOUNDS.total_bytes


def test_what_is_in_use_stays_whatever_it_takes(store: Store) -> None:
    held = [add(store, files({"data": bytes(900_000)}), f"key-{number}") for number in range(4)]
    with pytest.raises(Rejected, match="storeSize"):
        add(store, files({"data": bytes(900_000)}), "key-4")
    other = Store(BOUNDS)  # of another server with the same directory
    with pytest.raises(Rejected, match="storeSize"):
        add(other, files({"data": bytes(900_000)}), "key-4")
    assert len(list(Path().iterdir())) == 4
    held.pop().close()
    add(other, files({"data": bytes(900_000)}), "key-4").close()
    assert {path.name.rpartition("-")[0] for path in Path().iterdir()} == {"key-0", "key-1", "key-2", "key-4"}
    for one in held:
        one.close()


def test_the_same_layer_twice_is_there_once(store: Store) -> None:
    first, second = add(store, files({"a": b"1"})), add(store, files({"a": b"1"}))
    assert first.stored == second.stored
    assert len(list(Path().iterdir())) == 1
    first.close()
    second.close()


def test_clearing_takes_what_killed_builds_left(store: Store) -> None:
    Path(".making-dead", "tree").mkdir(parents=True)
    held = add(store, files({"a": b"1"}))
    assert store.clear() == [".making-dead"]
    assert [path.name for path in Path().iterdir()] == [held.stored.name]
    held.close()


def test_strangers_in_the_store_are_let_be(store: Store) -> None:
    Path("notes.txt").write_text("mine")
    Path("elsewhere").symlink_to("/etc")
    Path(f"{KEY}-{'0' * 32}").symlink_to("/etc")
    held = add(store, files({"a": b"1"}))
    held.close()
    assert {"elsewhere", "notes.txt"} <= {path.name for path in Path().iterdir()}
    assert Path("notes.txt").read_text() == "mine"
