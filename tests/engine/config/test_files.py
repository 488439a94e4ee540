"""Every bad file gives the messages in its head and nothing else breaks; every good file loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.schema import load_config
from engine.errors import ConfigError

HERE = Path(__file__).parent
BAD = sorted(HERE.glob("*_bad.yaml"))
GOOD = sorted(HERE.glob("*_good.yaml"))
SECRETS = ("hunter22", "secret-token")


def messages(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    return [line[2:] for line in lines[: lines.index("---")]]


def test_there_are_at_least_sixty_bad_files():
    assert len(BAD) >= 60


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_a_bad_file_gives_its_messages(path):
    with pytest.raises(ConfigError) as caught:
        load_config([path], {})
    text = str(caught.value)
    expected = messages(path)
    assert expected
    for message in expected:
        assert message in text
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_a_bad_file_gives_no_more_problems_than_it_has(path):
    with pytest.raises(ConfigError) as caught:
        load_config([path], {})
    places = {message.split(":")[0] for message in messages(path)}
    assert len(caught.value.problems) <= max(1, len(messages(path)), len(places))


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
def test_a_good_file_loads(path):
    config = load_config([path], {"ENGINE_TEST_URL": "http://victoriametrics:8428", "ENGINE_TEST_PORT": "8501"})
    assert not [w for w in config.warnings if "unknown key" in w]
