"""What stays secret in all texts about a configuration, and what only looks like a secret."""

from __future__ import annotations

import pytest

from engine.config.describe import describe, effective_yaml
from engine.config.schema import load_config
from engine.errors import ConfigError
from tests.engine.config.test_schema import reader

SECRET = "p@ss:w0rd-x"
SECRETIVE = reader(
    datasource_url="'http://me:%{PW}@vm:8428/?token=%{TOKEN}'", queries="{q: {expr: 'up{key=\"%{PW}\"}'}}"
)


def test_credentials_are_in_no_text(load):
    environ = {"PW": SECRET, "TOKEN": "t0ken-t0ken"}
    push = "monitoring: {push: {url: 'http://vm', user: me, password: %{PW}}}\n"
    writer = "writer: {datasource_url: 'http://vm:8428', bearer_token: %{TOKEN}}\n"
    config = load(environ=environ, reader=SECRETIVE, writer=writer, monitoring=push)
    assert SECRET in config.reader.datasource_url
    assert config.writer.bearer_token == "t0ken-t0ken"
    with pytest.raises(ConfigError) as caught:
        load(
            environ=environ,
            schedulers="schedulers: {'%{PW}': {infer_every: '%{PW}', fit_window: 1d, tz: '%{TOKEN}'}}\n",
            models="models: {m: {class: '%{TOKEN}'}}\n",
            reader=SECRETIVE.replace("http:", "ftp:"),
            writer=writer.replace("bearer", "'%{TOKEN}': 1, bearer"),
            monitoring=push,
        )
    texts = [describe(config), str(caught.value), *config.warnings]
    for text in texts:
        for secret in environ.values():
            assert secret not in text


def test_names_that_look_like_secrets_are_shown_and_the_effective_settings_load_again(load, tmp_path):
    queries = "{llm_tokens: 'sum(rate(llm_tokens_total[5m]))', password_failures: {expr: 'rate(login_failures[5m])'}}"
    config = load(
        models="models: {token_model: {class: zscore_online, queries: all, schedulers: all, z_threshold: 3}}\n",
        schedulers="schedulers: {secret_hour: {infer_every: 1m, fit_window: 1d, fit_every: 2h}}\n",
        reader=reader(queries=queries, user="me", password=SECRET),
        writer="writer: {datasource_url: 'http://vm', metric_format: {__name__: $VAR, for: $QUERY_KEY, token: a}}\n",
        monitoring="monitoring: {push: {url: 'http://vm', extra_labels: {api_key: none}}}\n",
    )
    text = describe(config)
    assert "sum(rate(llm_tokens_total[5m]))" in text
    assert text.count("***") == 1  # the password
    assert SECRET not in text
    path = tmp_path / "again.yaml"
    path.write_text(effective_yaml(config))
    again = load_config([path], {}, strict=True)
    for name in ("schedulers", "queries", "groups", "writer", "monitoring"):
        assert getattr(again, name) == getattr(config, name)


@pytest.mark.parametrize("value", [f"[{SECRET}]", f"{{a: {SECRET}}}", f"{{queries: {{a: {SECRET}}}}}"])
@pytest.mark.parametrize("key", ["password", "bearer_token", "api_secret"])
def test_whatever_stands_under_a_key_of_a_credential_is_hidden(load, key, value):
    with pytest.raises(ConfigError) as caught:
        load(reader=reader(**{key: value}, step="0", timeout="-1"), writer=f"writer: {{path: {SECRET}}}\n")
    assert SECRET not in str(caught.value)
