"""What a section can say that its types do not show: files, URLs, bounds; found before anything starts."""

from __future__ import annotations

import pytest

from engine.errors import ConfigError
from tests.engine.config.conftest import READER, WRITER

TOKEN = "eyJhbGciOiJSUzI1NiJ9." + "c2VjcmV0" * 40
LONGEST_NAME = 255  # of a file, on Linux


@pytest.mark.parametrize("value", [TOKEN, "'-----BEGIN KEY-----\n\n  c2VjcmV0\n\n'", '"c2VjcmV0\\0"', "/c2VjcmV0", "."])
@pytest.mark.parametrize(
    ("path", "sections"),
    [
        ("reader.bearer_token_file", {"reader": READER.replace("{data", "{bearer_token_file: VALUE, data")}),
        ("writer.verify_tls", {"writer": WRITER.replace("{data", "{verify_tls: VALUE, data")}),
        ("reader.tls_cert_file", {"reader": READER.replace("{data", "{tls_cert_file: x, tls_key_file: VALUE, data")}),
        (
            "monitoring.push.bearer_token_file",
            {"monitoring": "monitoring: {push: {url: 'http://vm', bearer_token_file: VALUE}}\n"},
        ),
        ("server.auth.bearer_token_file", {"server": "server: {auth: {bearer_token_file: VALUE}}\n"}),
        ("server.tls.key_file", {"server": "server: {tls: {cert_file: /etc/hostname, key_file: VALUE}}\n"}),
    ],
)
def test_what_is_no_file_is_told_by_its_key_and_never_shown(load, path, sections, value):
    given = {name: text.replace("VALUE", value) for name, text in sections.items()}
    try:
        found = load(**given).warnings
    except ConfigError as err:
        found = err.problems
    else:
        assert len(value) <= LONGEST_NAME
    assert [line for line in found if line.startswith(path)]
    assert "c2VjcmV0" not in "".join(found)
