"""What a configuration means: fallbacks, attachments, what is left out, what is not there yet, what stays secret."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config.describe import describe, effective_yaml
from engine.config.schema import load_config
from engine.errors import ConfigError

HERE = Path(__file__).parent
ENVIRON = {"ENGINE_TEST_URL": "http://victoriametrics:8428", "ENGINE_TEST_PORT": "8501"}


def reader(**keys: str) -> str:
    values = {"datasource_url": "http://vm:8428", "sampling_period": "1m", "queries": "{q: {expr: up}}", **keys}
    return "reader: {" + ", ".join(f"{k}: {v}" for k, v in values.items() if v) + "}\n"


def test_the_guide_is_the_oldest_style():
    config = load_config([HERE / "guide_good.yaml"], {})
    query = config.queries["node_cpu_rate"]
    assert config.is_oldest_style
    assert (query.expr, query.step_ms) == ("rate(node_cpu_seconds_total)", 60_000)
    assert [(g.scheduler_alias, g.model_alias, g.query_alias) for g in config.groups] == [
        ("default_scheduler", "default_model", "node_cpu_rate")
    ]
    assert config.models["default_model"].args == {"interval_width": 0.98}
    assert config.writer.metric_format == {"__name__": "$VAR", "for": "$QUERY_KEY"}
    assert (config.server.port, config.preset) == (8500, "default")


def test_one_flat_section_is_not_the_oldest_style(load):
    assert not load(schedulers="scheduler: {infer_every: 1m, fit_window: 1d}\n").is_oldest_style


def test_step_is_the_querys_then_the_period_then_the_smallest_infer_every(load):
    schedulers = "schedulers: {s: {infer_every: 2m, fit_window: 1d}, t: {infer_every: 30s, fit_window: 1d}}\n"
    queries = "{a: {expr: a, step: 10s}, b: {expr: b}}"
    given_period = load(schedulers=schedulers, reader=reader(sampling_period="5m", queries=queries))
    assert [q.step_ms for q in given_period.queries.values()] == [10_000, 300_000]
    no_period = load(schedulers=schedulers, reader=reader(sampling_period="", queries=queries))
    assert [q.step_ms for q in no_period.queries.values()] == [10_000, 30_000]
    assert any(w.startswith("reader.sampling_period: not given") for w in no_period.warnings)


def test_data_range_of_the_query_wins_over_the_readers_and_stays_open_without_both(load):
    queries = "{a: {expr: a, data_range: [0, 1]}, b: {expr: b}, c: {expr: c, data_range: [-inf, inf]}}"
    both = load(reader=reader(queries=queries, data_range="[5, .inf]")).queries
    assert [both[a].data_range for a in "abc"] == [(0, 1), (5, math.inf), (-math.inf, math.inf)]
    assert load(reader=reader(queries=queries)).queries["b"].data_range is None


def test_queries_inherit_from_the_reader(load):
    keys = {"tz": "Europe/Kyiv", "offset": "-30s", "tenant_id": "'0'", "max_points_per_query": "500"}
    queries = "{a: {expr: a}, b: {expr: b, tz: UTC, offset: 0s, tenant_id: '1:2', max_points_per_query: 5}}"
    found = load(reader=reader(queries=queries, **keys)).queries
    values = [(q.tz, q.offset_ms, q.tenant_id, q.max_points_per_query) for q in found.values()]
    assert values == [("Europe/Kyiv", -30_000, "0", 500), ("UTC", 0, "1:2", 5)]


def test_policies_of_a_query_are_none_unless_given_and_zero_is_given(load):
    queries = "{a: {expr: a}, b: {expr: b, min_dev_from_expected: 0, min_rel_dev_from_expected: [1, 2]}}"
    found = load(reader=reader(queries=queries)).queries
    assert (found["a"].min_dev_from_expected, found["a"].detection_direction) == (None, None)
    assert (found["b"].min_dev_from_expected, found["b"].min_rel_dev_from_expected) == ((0, 0), (1, 2))


@pytest.mark.parametrize("text", ["[]", "null", ""])
def test_a_model_on_no_queries_is_dropped_loudly(load, text):
    config = load(models=f"models: {{m: {{class: zscore, schedulers: all, queries: {text}}}}}\n")
    assert (config.groups, dict(config.models), dict(config.queries), dict(config.schedulers)) == ((), {}, {}, {})
    assert any("DOES NOT RUN" in w for w in config.warnings)
    assert any("NOTHING RUNS" in w for w in config.warnings)


def test_attachments_that_are_absent_mean_all_with_a_warning(load):
    config = load(models="models: {m: {class: zscore}}\n", reader=reader(queries="{a: a, b: b}"))
    assert [g.query_alias for g in config.groups] == ["a", "b"]
    assert len([w for w in config.warnings if "attached to all" in w]) == 2


def test_what_is_attached_to_nothing_is_left_out(load):
    config = load(
        schedulers="schedulers: {s: {infer_every: 1m, fit_window: 1d}, idle: {infer_every: 1m, fit_window: 1d}}\n",
        models="models: {m: {class: zscore, queries: [a], schedulers: [s]}, x: {class: std, period: 5, queries: [],"
        " schedulers: all}}\n",
        reader=reader(queries="{a: a, orphan: b}"),
    )
    assert (list(config.schedulers), list(config.models), list(config.queries)) == (["s"], ["m"], ["a"])
    assert config.unavailable == ()
    for path in ("schedulers.idle", "reader.queries.orphan"):
        assert f"{path}: attached to nothing: left out" in config.warnings


def test_a_multivariate_model_is_one_group(load):
    models = "models: {m: {class: isolation_forest_multivariate, queries: all, schedulers: all}}\n"
    (group,) = load(models=models, reader=reader(queries="{b: b, a: a}")).groups
    assert (group.query_alias, group.query_aliases) == ("a,b", ("a", "b"))


def test_channels_in_several_zones_or_with_several_offsets_are_warned_of(load):
    models = "models: {m: {class: isolation_forest_multivariate, queries: all, schedulers: all}}\n"
    queries = "{b: {expr: b, tz: Europe/Berlin}, a: {expr: a, offset: 10s}}"
    warnings = load(models=models, reader=reader(queries=queries)).warnings
    assert "models.m.queries: time zones differ: that of a, UTC, counts for all channels" in warnings
    assert "models.m.queries: offsets differ: the smallest one, 0s, counts for all channels" in warnings


def test_optional_texts_that_are_empty_are_not_given(load):
    empty = {"user": "''", "password": "''", "tenant_id": "''", "tls_cert_file": "''", "bearer_token": "abcdef"}
    config = load(reader=reader(**empty, queries="{q: {expr: up, tenant_id: '', tz: ''}}"))
    assert (config.reader.user, config.reader.tenant_id, config.queries["q"].tz) == (None, None, "UTC")


def test_noop_parts_run_nothing():
    config = load_config([HERE / "noop_good.yaml"], {})
    assert (config.groups, dict(config.schedulers), config.unavailable) == ((), {}, ())


def test_unknown_keys_warn_with_the_nearest_and_fail_when_strict(load):
    odd = reader(sampling_perod="5m")
    config = load(reader=odd)
    assert "reader.sampling_perod: unknown key; did you mean sampling_period?; it has no effect" in config.warnings
    with pytest.raises(ConfigError, match="did you mean sampling_period"):
        load(reader=odd, strict=True)


def test_inner_arguments_beside_the_class_are_named(load):
    config = load(models="models: {m: {class: zscore, queries: all, schedulers: all, yearly_seasonality: 3}}\n")
    assert any("arguments of the inner library stand under `args`" in w for w in config.warnings)


@pytest.mark.parametrize(
    ("reader_tenant", "query_tenant", "writer_tenant", "warns"),
    [
        ("1", "", "1", False),
        ("1", "", "'1:0'", False),
        ("'0'", "", "'0:0'", False),
        ("1", "", "2", True),
        ("1", "", "", True),
        ("1", "2", "1", True),
        ("multitenant", "", "multitenant", False),
        ("multitenant", "5", "multitenant", False),
        ("", "", "3", False),
    ],
)
def test_tenants_of_reader_and_writer(load, reader_tenant, query_tenant, writer_tenant, warns):
    tenant = f", tenant_id: {query_tenant}" if query_tenant else ""
    config = load(
        reader=reader(tenant_id=reader_tenant, queries=f"{{q: {{expr: up{tenant}}}}}"),
        writer=f"writer: {{datasource_url: 'http://vm:8428', tenant_id: {writer_tenant}}}\n",
    )
    assert any(w.startswith("writer.tenant_id") for w in config.warnings) == warns


def test_times_that_do_not_fit_are_warned_of(load):
    config = load(
        schedulers="schedulers: {s: {infer_every: 10s, fit_window: 30s, fit_every: 5s}}\n",
        reader=reader(fetch_timeout="20s"),
    )
    for start in ("schedulers.s.infer_every: 10s is shorter", "schedulers.s.fit_window: 30s is shorter",
                  "reader.timeout: 20s is longer", "schedulers.s.fit_every: shorter"):  # fmt: skip
        assert any(w.startswith(start) for w in config.warnings)


@pytest.mark.parametrize(
    ("sections", "environ", "part"),
    [
        ({"schedulers": "schedulers: {s: {class: oneoff, fit_start_s: 1, fit_end_s: 2, infer_start_s: 3,"
          " infer_end_s: 4}}\n"}, {}, "schedulers.s.class: oneoff"),
        ({"schedulers": "schedulers: {s: {class: backtesting, from_s: 1, to_s: 2, fit_window: 1d, fit_every: 1d}}\n"},
         {}, "schedulers.s.class: backtesting"),
        ({"models": "models: {m: {class: peer_outlier, queries: all, schedulers: all}}\n"}, {},
         "models.m.class: peer_outlier"),
        ({"reader": reader(**{"class": "vlogs"})}, {}, "reader.class: vlogs"),
        ({"preset": "preset: ui\n"}, {}, "preset: ui"),
        ({}, {"VMANOMALY_MEMBERS_COUNT": "3"}, "VMANOMALY_MEMBERS_COUNT"),
    ],
)  # fmt: skip
def test_a_part_that_does_not_exist_yet_is_one_line(load, sections, environ, part):
    (line,) = load(environ=environ, **sections).unavailable
    assert line.startswith(part)
    assert line.endswith("not available yet")


def test_a_count_of_members_that_is_none_is_a_problem(load):
    with pytest.raises(ConfigError, match="VMANOMALY_MEMBERS_COUNT"):
        load(environ={"VMANOMALY_MEMBERS_COUNT": "many"})
    assert load(environ={"VMANOMALY_MEMBERS_COUNT": "1"}).unavailable == ()


def test_keys_without_effect_are_said(load):
    config = load(settings="settings: {native_threads_per_worker: 4}\nserver: {max_concurrent_tasks: 3}\n")
    paths = {w.split(":")[0] for w in config.warnings}
    assert {"settings.native_threads_per_worker", "server.max_concurrent_tasks"} <= paths


def test_policies_of_a_query_without_effect_on_a_model_without_a_band_are_said(load):
    queries = "{q: {expr: up, detection_direction: above_expected, min_dev_from_expected: 3, data_range: [0, 1]}}"
    forest = "models: {m: {class: isolation_forest, queries: all, schedulers: all}}\n"
    texts = [w for w in load(models=forest, reader=reader(queries=queries)).warnings if "reader.queries.q" in w]
    assert [w.split(":")[0].rpartition(".")[2] for w in texts] == ["detection_direction", "min_dev_from_expected"]
    assert all("has no effect on model m" in w for w in texts)
    assert not [w for w in load(reader=reader(queries=queries)).warnings if "no effect" in w]


@pytest.mark.parametrize("form", ["models: {m: {%s, queries: all, schedulers: all}}", "model: {%s}"])
def test_the_other_name_of_the_tuned_class_is_understood(load, form):
    text = form % "class: auto, tuned_model_class: std, optimization_params: {anomaly_percentage: 0.01}"
    config = load(models=text + "\n")
    (model,) = config.models.values()
    assert model.tuned_class_name == "std"
    assert [w for w in config.warnings if "tuned_model_class: another spelling of tuned_class_name" in w]


def test_memory_budget_is_bytes_or_a_share(load):
    for text, expected in (("512MiB", 512 << 20), ("25%", 250), ("2GB", 2 * 10**9), ("20000000", 20_000_000)):
        assert load(settings=f"settings: {{memory_budget: {text}}}\n").settings.memory_budget.bytes_of(1000) == expected
    assert load().settings.memory_budget.bytes_of(1000) == 600


def test_a_placeholder_in_any_style_fills_a_number():
    config = load_config([HERE / "placeholders_good.yaml"], ENVIRON)
    assert (config.server.port, config.server.path_prefix, config.monitoring.pull.port) == (8501, "/x8501", 8501)


@pytest.mark.parametrize("path", sorted(HERE.glob("*_good.yaml")), ids=lambda p: p.stem)
def test_the_effective_settings_load_again_and_mean_the_same(path, tmp_path):
    config = load_config([path], ENVIRON)
    if not config.groups:
        pytest.skip("nothing runs")
    again_path = tmp_path / "again.yaml"
    again_path.write_text(effective_yaml(config))
    again = load_config([again_path], {}, strict=True)
    for name in ("schedulers", "queries", "groups", "settings", "server", "monitoring", "preset", "is_oldest_style"):
        assert getattr(again, name) == getattr(config, name)
    assert effective_yaml(again) == effective_yaml(config)


def test_forecast_offsets_keep_their_text(load, tmp_path):
    models = "models: {m: {class: prophet, queries: all, schedulers: all, forecast_at: [60m, 1d]}}\n"
    path = tmp_path / "again.yaml"
    path.write_text(effective_yaml(load(models=models)))
    assert [o.as_configured for o in load_config([path], {}).models["m"].forecast_at] == ["60m", "1d"]


def test_the_dry_run_names_what_runs(load):
    text = describe(load(server="server: {port: 8501}\nmonitoring: {pull: {port: 8080}}\n"))
    for part in ("scheduler s: periodic, fits 1d every 2h, infers every 1m", "model m (zscore_online) on q, step 1m",
                 "reads: vm, http://vm:8428", "writes: vm, http://vm:8428", "serves: 0.0.0.0:8501",
                 "serves /metrics: 0.0.0.0:8080"):  # fmt: skip
        assert part in text


def test_the_dry_run_names_a_model_of_several_queries_once(load):
    models = "models: {m: {class: isolation_forest_multivariate, queries: all, schedulers: all}}\n"
    text = describe(load(models=models, reader=reader(queries={"a": {"expr": "u"}, "b": {"expr": "v  + w"}})))
    assert text.count("model m (isolation_forest_multivariate)") == 1
    lines = [line.removeprefix("#").strip() for line in text.splitlines()]
    start = lines.index("model m (isolation_forest_multivariate) on a and b, step 1m, as one:")
    assert lines[start + 1 : start + 3] == ["a: u", "b: v + w"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = ["schedulers", "models", "reader", "writer", "settings", "server", "monitoring", "preset", "schedulers.s",
          "models.m", "models.m.queries", "models.m.class", "models.m.args", "reader.queries", "reader.queries.q",
          "reader.class", "reader.tenant_id", "writer.metric_format", "monitoring.push", "monitoring.pull",
          "settings.retention", "settings.logger_levels", "schedulers.s.start_from", "scheduler", "model"]  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(place=st.sampled_from(PLACES), value=JUNK)
def test_whatever_stands_anywhere_is_a_config_or_its_problems(tmp_path_factory, place, value):
    node = tree = {
        "schedulers": {"s": {"infer_every": "1m", "fit_window": "1d"}},
        "models": {"m": {"class": "zscore", "queries": "all", "schedulers": "all"}},
        "reader": {"datasource_url": "http://vm", "sampling_period": "1m", "queries": {"q": {"expr": "up"}}},
        "writer": {"datasource_url": "http://vm"},
    }
    *parents, last = place.split(".")
    for key in parents:
        node = node.setdefault(key, {})
    node[last] = value
    path = tmp_path_factory.mktemp("junk") / "c.yaml"
    path.write_text(yaml.safe_dump(tree))
    with contextlib.suppress(ConfigError):
        describe(load_config([path], {}))
