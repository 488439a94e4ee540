"""What a section can say that its types do not show: files, URLs, bounds; found before anything starts."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from engine.config.sections import LOGGERS
from engine.errors import ConfigError
from engine.frame import Batch
from engine.writer.labels import generated_labels
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


@pytest.mark.parametrize(
    ("path", "tenant", "differs"),
    [
        ("select/0/prometheus", "7", True),
        ("select/0:1", "0", True),
        ("select/multitenant/prometheus", "7", True),
        ("select/7/prometheus", "multitenant", True),
        ("select/7/prometheus", "7:0", False),
        ("select/0:0/prometheus/", "0", False),
        ("select/7/prometheus", "", False),
        ("prometheus", "7", False),
    ],
)
@pytest.mark.parametrize("part", ["reader", "writer", "monitoring.push"])
def test_a_tenant_is_the_one_that_the_url_names(load, part, path, tenant, differs):
    url = f"http://vm/{path if part == 'reader' else path.replace('select', 'insert')}"
    keys = f"url: '{url}', tenant_id: '{tenant}'"
    sections = {
        "reader": {"reader": READER.replace("datasource_url: 'http://vm:8428'", f"datasource_{keys}")},
        "writer": {"writer": f"writer: {{datasource_{keys}}}\n"},
        "monitoring.push": {"monitoring": f"monitoring: {{push: {{{keys}}}}}\n"},
    }[part]
    if not differs:
        load(**sections)
        return
    with pytest.raises(ConfigError, match=f'{part}.tenant_id: "{tenant}", expected .*, the tenant in .*url'):
        load(**sections)


def test_the_tenant_of_a_query_is_the_one_that_the_url_names_too(load):
    reader = READER.replace("vm:8428'", "vm/select/7/prometheus', tenant_id: '7'").replace("up", "up, tenant_id: '8'")
    with pytest.raises(ConfigError, match=r'reader\.queries\.q\.tenant_id: "8", expected 7'):
        load(reader=reader)


@pytest.mark.parametrize("part", ["reader", "writer", "monitoring.push"])
@pytest.mark.parametrize(
    "url",
    [
        "http://a..b:8428",
        "http://\u0661.com",
        "http://\u2603\u2603.",
        f"http://{'a' * 64}.com",
        f"http://vm/{'a' * 70_000}",
    ],
)
def test_a_host_that_cannot_be_asked_is_a_problem(load, part, url):
    sections = {
        "reader": {"reader": READER.replace("http://vm:8428", url)},
        "writer": {"writer": WRITER.replace("http://vm:8428", url)},
        "monitoring.push": {"monitoring": f"monitoring: {{push: {{url: '{url}'}}}}\n"},
    }[part]
    with pytest.raises(ConfigError, match=f"{part}.(datasource_)?url: .*expected a URL like"):
        load(**sections)


@pytest.mark.parametrize(
    "url", ["http://my_vm:8428", "http://m\xfcnchen", "http://[::1]:8428", "http://vm.", "HTTPS://VM/x"]
)
def test_a_host_that_can_be_asked_is_none(load, url):
    load(reader=READER.replace("http://vm:8428", url))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("class: custom, args: foo", 'models.m.args: "foo", expected a map'),
        (f"class: custom, custom: {{path: {'a' * 300}}}", "models.m.custom.path: "),
        ("class: custom, args: foo, own: 1", 'models.m.args: "foo", expected a map'),
        ("class: arima, order: [1, 100000, 0]", "models.m.order: [1, 100000, 0], expected to reach back at most 4096"),
        (f"class: arima, order: [1, {10**30}, 0]", "models.m.order: "),
        (f"class: arima, order: [{10**30}, 0, 0]", "models.m.order: "),
        ("class: arima, order: [1, 0, 5000]", "models.m.order: [1, 0, 5000], expected to reach back at most 4096"),
        (
            f"class: arima, order: [1, 0, 0], args: {{seasonal_order: [0, {10**30}, 0, 7]}}",
            f"models.m.args.seasonal_order: [0, {10**30}, 0, 7], expected to reach back at most 4096",
        ),
        (
            "class: arima, order: [1, 1, 0], args: {seasonal_order: [0, 1, 0, 5000]}",
            "models.m.args.seasonal_order: [0, 1, 0, 5000], expected to reach back at most 4096",
        ),
    ],
)
def test_what_a_model_cannot_be_made_of_is_told_at_once(load, keys, problem):
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(models=f"models: {{m: {{{keys}, queries: all, schedulers: all}}}}\n")
    assert [line for line in caught.value.problems if line.startswith(problem)], caught.value.problems
    assert len(caught.value.problems) == 1
    assert time.process_time() - started < 5  # 41 s for a hundred thousand differences, when they were computed


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("uvicorn_config: {workers: 2}", "server.uvicorn_config.workers: is set by the service"),
        ("uvicorn_config: {nope: 1}", "server.uvicorn_config.nope: is not a setting of uvicorn"),
        ("uvicorn_config: {log_level: loud}", "server.uvicorn_config: KeyError: 'loud'"),
        ("tls: {cert_file: /etc/hostname, key_file: /etc/hostname}", "server.tls: SSLError: "),
    ],
)
def test_what_the_listener_would_not_take_is_a_problem(load, keys, problem):
    with pytest.raises(ConfigError) as caught:
        load(server=f"server: {{{keys}}}\n")
    (found,) = caught.value.problems
    assert found.startswith(problem)


def test_what_the_listener_takes_is_none(load):
    assert load(server="server: {uvicorn_config: {log_level: info, backlog: 99}}\n").warnings == ()


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ("logger_levels: {copilot: debug}", "settings.logger_levels.copilot: no logger has this name"),
        ("logger_levels: {model.prophet: debug}", "settings.logger_levels.model.prophet: no logger has this name"),
        ("retention: {check_interval: 1h}", "settings.retention: has no effect without ttl"),
        ("retention: {}", "settings.retention: has no effect without ttl"),
    ],
)
def test_settings_that_change_nothing_are_said(load, keys, place):
    (warning,) = load(settings=f"settings: {{{keys}}}\n").warnings
    assert warning.startswith(place)


def test_settings_that_change_something_are_not_warned_of(load):
    names = ("reader", "reader.vm", "writer", "model", "scheduler", "monitoring.push", "service", "vmanomaly", "httpx")
    levels = ", ".join(f"{name}: info" for name in (*names, "util.files", "uvicorn.error"))
    assert load(settings=f"settings: {{logger_levels: {{{levels}}}, retention: {{ttl: 1d}}}}\n").warnings == ()


def test_the_names_of_loggers_are_those_of_the_sources():
    sources = "".join(path.read_text() for path in (Path(__file__).parents[3] / "engine").rglob("*.py"))
    assert set(LOGGERS) == set(re.findall(r'getLogger\("([^"]+)"\)', sources))


def test_an_entry_that_replaces_a_label_of_ours_is_said_as_it_is(load):
    writer = "writer: {datasource_url: 'http://vm', metric_format: {__name__: $VAR, for: $QUERY_KEY, preset: mine}}\n"
    config = load(writer=writer)
    assert config.warnings == ("writer.metric_format.preset: replaces the label that the service writes",)
    batch = Batch(*(None, None), "q", "m", "s", "default")  # of its labels only
    assert generated_labels(config.writer.metric_format, batch, "y")["preset"] == "mine"
