"""Files to one map: order, folders, merging, spellings, placeholders, bounds."""

from __future__ import annotations

import pytest

from engine.config.document import DocumentError, parse_document
from engine.config.load import merge
from engine.config.schema import load_config
from engine.errors import ConfigError


def test_later_files_win_key_by_key(load, base):
    config = load(base, "reader: {timeout: 7s}\nserver: {port: 1234}\n", "server: {addr: 127.0.0.1}\n")
    assert (config.reader.timeout.seconds, config.reader.datasource_url) == (7, "http://vm:8428")
    assert (config.server.port, config.server.addr) == (1234, "127.0.0.1")


def test_lists_and_scalars_are_replaced():
    assert merge({"a": [1, 2], "b": {"c": 1, "d": 2}}, {"a": [3], "b": {"c": None}}) == {
        "a": [3],
        "b": {"c": None, "d": 2},
    }


def test_a_folder_is_its_yaml_files_by_name_and_not_those_below(tmp_path, base):
    (tmp_path / "b.yml").write_text("server: {port: 2}\n")
    (tmp_path / "a.yaml").write_text(base + "server: {port: 1}\n")
    (tmp_path / "c.json").write_text("not yaml: [")
    below = tmp_path / "below"
    below.mkdir()
    (below / "z.yaml").write_text("server: {port: 3}\n")
    assert load_config([tmp_path], {}).server.port == 2


def test_an_empty_folder_and_missing_files_are_all_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config([tmp_path, tmp_path / "one.yaml", tmp_path / "two.yaml"], {})
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("name", ["x" * 300, "nul\0name", "a/b/c.yaml"])
def test_names_that_no_file_can_have_are_problems(tmp_path, name):
    with pytest.raises(ConfigError):
        load_config([tmp_path / name], {})


def test_many_text_queries_are_one_short_warning(load):
    queries = ", ".join(f"q{k}: up" for k in range(1000))
    reader = f"reader: {{datasource_url: 'http://vm', sampling_period: 1m, queries: {{{queries}}}}}\n"
    config = load(reader=reader)
    assert len(config.groups) == 1000
    assert any("q4 and 995 more: plain text" in w for w in config.warnings)


def test_not_utf8_is_a_problem(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"reader: \xff\xfe\xfa")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config([path], {})


def test_a_byte_order_mark_is_no_content(tmp_path, base):
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + base.encode())
    assert load_config([path], {}).groups


def test_alias_and_full_class_name_are_one_entity(load, base):
    config = load(base, "models: {m: {class: model.online.OnlineZscoreModel, z_threshold: 4}}\n")
    assert list(config.models) == ["m"]
    assert config.models["m"].z_threshold == 4
    assert not [w for w in config.warnings if "unknown" in w]


def test_a_text_query_merges_with_a_map(load, base):
    config = load(base.replace("{expr: up}", "up"), "reader: {queries: {q: {step: 5m}}}\n")
    assert (config.queries["q"].expr, config.queries["q"].step_ms) == ("up", 300_000)


def test_a_flat_section_may_be_spread_over_files(load):
    config = load(
        "scheduler: {infer_every: 1m, fit_window: 1d}\nmodel: {class: zscore}\n"
        "reader: {datasource_url: 'http://vm:8428', queries: {q: up}}\nwriter: {datasource_url: 'http://vm:8428'}\n",
        "server: {port: 18500}\n",
        "scheduler: {infer_every: 2m}\n",
    )
    assert config.is_oldest_style
    assert config.schedulers["default_scheduler"].infer_every == 120_000
    assert config.groups[0].model_alias == "default_model"


def test_a_repeated_key_is_a_warning(load, base):
    config = load(base + "server: {port: 1, port: 2}\n")
    assert config.server.port == 2
    assert any("`port` is written twice" in w for w in config.warnings)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("a: %{X}", {"X": "5"}, 5),
        ("a: '%{X}'", {"X": "5"}, "5"),
        ('a: "%{X}"', {"X": 'say "hi" \\ there'}, 'say "hi" \\ there'),
        ("a: %{X}", {"X": "b: [c, {d"}, "b: [c, {d"),
        ("a: %{X} # %{Y}", {"X": "v", "Y": "line\nbreak: 1"}, "v"),
        ("a: http://%{HOST}:%{PORT}/x", {"HOST": "vm", "PORT": "1"}, "http://vm:1/x"),
        ("a: %{X}", {"X": "true"}, True),
        ("a: %{X}", {"X": ""}, None),
        ("a: %{X}", {}, "%{X}"),
        ("a: |\n  x %{X}\n", {"X": "y"}, "x y\n"),
        ("a: rate(b) %{job}", {}, "rate(b) %{job}"),
        ("a: 'b %{job=\"c\"}'", {"job": "x"}, 'b %{job="c"}'),
        ("a: %{X}", {"X": "*anchor"}, "*anchor"),
    ],
)
def test_a_placeholder_fills_a_scalar_and_nothing_more(text, environ, expected):
    assert parse_document(text, environ)[0] == {"a": expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10:30", "10:30"), ("0123", "0123"), ("1:2", "1:2"), ("2024-01-01", "2024-01-01"), ("0x1f", "0x1f"),
     ("-5", -5), ("1.5", 1.5), (".inf", float("inf")), ("yes", True), ("~", None), ("", None)],
)  # fmt: skip
def test_scalars_are_what_was_written(text, expected):
    assert parse_document(f"a: {text}", {})[0] == {"a": expected}


def test_keys_are_text():
    assert parse_document("{1: a, on: b, null: c, 1.5: d}", {})[0] == {"1": "a", "on": "b", "null": "c", "1.5": "d"}


@pytest.mark.parametrize(
    "text",
    ["password: *hunter22", "password: !hunter22 x", "password: 'hunter22", "password: %hunter22", "a: {hunter22]"],
)
def test_a_parse_error_quotes_nothing(text):
    with pytest.raises(DocumentError) as caught:
        parse_document(text, {})
    assert "hunter22" not in str(caught.value)


def test_depth_does_not_need_the_stack():
    with pytest.raises(DocumentError, match="levels deep"):
        parse_document("[" * 200_000, {})
