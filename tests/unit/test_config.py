"""Where the configuration comes from, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from isol8.config import Config, InvalidConfig, load_config
from isol8.model import Network


def written(directory: Path, tree: Any) -> str:
    path = directory / "config.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return str(path)


def load(directory: Path, tree: Any = None, **environment: str) -> Config:
    return load_config(written(directory, {} if tree is None else tree), environment)


def test_the_defaults(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.host, config.port, config.api_keys) == ("127.0.0.1", 3000, ())
    assert config.data_dir == str(Path.home() / ".isol8")
    assert (config.defaults.timeout_ms, config.defaults.memory_limit, config.defaults.cpu_limit) == (30_000, 1 << 29, 1)
    assert config.defaults.network is Network.NONE
    assert config.policy.networks == (Network.NONE,)


def test_the_file_sets_and_the_environment_wins(tmp_path: Path) -> None:
    tree = {"port": 4000, "host": "0.0.0.0", "defaults": {"memoryLimit": "64m", "timeoutMs": 7}}
    config = load(tmp_path, tree, ISOL8_PORT="5000", ISOL8_DEFAULTS_MEMORY_LIMIT="1G", OTHER="1")
    assert (config.port, config.host) == (5000, "0.0.0.0")
    assert (config.defaults.memory_limit, config.defaults.timeout_ms) == (1 << 30, 7)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ISOL8_API_KEY", "123", lambda config: config.api_keys == ("123",)),
        ("ISOL8_API_KEYS", "a, b", lambda config: config.api_keys == ("a", "b")),
        ("ISOL8_MAX_CONCURRENT", "3", lambda config: config.max_concurrent == 3),
        ("ISOL8_DEFAULTS_CPU_LIMIT", "0.5", lambda config: config.defaults.cpu_limit == 0.5),
        ("ISOL8_POLICY_NETWORKS", "none,host", lambda config: config.policy.networks == (Network.NONE, Network.HOST)),
        ("ISOL8_POLICY_REQUESTS_PER_MINUTE", "9", lambda config: config.policy.requests_per_minute == 9),
        ("ISOL8_CLEANUP_AUTO_PRUNE", "false", lambda config: config.cleanup.auto_prune is False),
        ("ISOL8_DATA_DIR", "/var/lib/isol8", lambda config: config.data_dir == "/var/lib/isol8"),
        ("ISOL8_POOL_PYTHON", "0", lambda config: config.pool.python == 0),
        ("ISOL8_NETWORK_WHITELIST", "a.b,c", lambda config: config.network.whitelist == ("a.b", "c")),
        ("ISOL8_PORT", "", lambda config: config.port == 3000),
    ],
)
def test_every_key_has_a_variable(variable: str, value: str, expected: Any, tmp_path: Path) -> None:
    assert expected(load(tmp_path, None, **{variable: value}))


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"prot": 1}, "Unknown field prot; did you mean port?"),
        ({"defaults": {"timeoutMS": 1}}, "Unknown field defaults.timeoutMS; did you mean timeoutMs?"),
        ({"timeoutMs": 1}, "Unknown field timeoutMs; did you mean defaults.timeoutMs?"),
        ({"pool": {"cobol": 1}}, "Unknown field pool.cobol"),
        ({"port": "3000"}, "port must be an integer"),
        ({"port": 70000}, "port must be less than or equal to 65535"),
        ({"defaults": {"memoryLimit": "lots"}}, 'defaults.memoryLimit must be a size like "512m"'),
        ({"defaults": {"memoryLimit": "8g"}}, "has a defaults.memoryLimit above policy.memoryLimit"),
        ({"defaults": {"network": "host"}}, "has a defaults.network that is not among policy.networks"),
        ({"defaults": {"network": "lan"}}, "defaults.network must be one of none, filtered, host"),
        ({"defaults": 3}, "defaults must be an object"),
        ({"apiKeys": "k"}, "apiKeys must be a list"),
        ("{", "is not valid JSON"),
        ("[]", "must hold a JSON object"),
    ],
)
def test_what_is_wrong_is_named(tree: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as raised:
        load(tmp_path, tree)
    assert sentence in raised.value.message
    assert "config.json" in raised.value.message


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("ISOL8_PROT", "1", "Unknown environment variable ISOL8_PROT; did you mean ISOL8_PORT?"),
        ("ISOL8_APIKEY", "1", "did you mean ISOL8_API_KEY?"),
        ("ISOL8_PORT", "many", "port must be an integer"),
        ("ISOL8_CLEANUP_AUTO_PRUNE", "yes", "cleanup.autoPrune must be true or false"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as raised:
        load(tmp_path, None, **{variable: value})
    assert sentence in raised.value.message


def test_defaults_that_nobody_set_give_way_to_the_policy(tmp_path: Path) -> None:
    assert load(tmp_path, {"policy": {"memoryLimit": "64m", "timeoutMs": 10}}).policy.memory_limit == 1 << 26


def test_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    (home / ".isol8").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    assert load_config(None, {}).port == 3000
    (home / ".isol8" / "config.json").write_text('{"port": 1}')
    assert load_config(None, {}).port == 1
    (here / "isol8.config.json").write_text('{"port": 2}')
    assert load_config(None, {}).port == 2


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_config(str(tmp_path / "nowhere.json"), {})


def test_it_is_frozen(tmp_path: Path) -> None:
    config = load(tmp_path)
    with pytest.raises(ValidationError):
        config.port = 1  # type: ignore[misc]
