"""The written label set: order, precedence, placeholders, warnings."""

from __future__ import annotations

import logging

import pytest

from engine.writer.labels import LabelWarnings, filled, generated_labels, received_labels
from engine.writer.settings import METRIC_FORMAT
from tests.engine.writer.batches import make_batch

NO_ALIASES = {"model_alias": "", "scheduler_alias": "", "preset": ""}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$VAR", "yhat"),
        ("$QUERY_KEY", "cpu"),
        ("vm_$VAR.x", "vm_yhat.x"),
        ("$QUERY_KEY/$VAR/$QUERY_KEY", "cpu/yhat/cpu"),
        ("plain", "plain"),
        ("$var $", "$var $"),
    ],
)
def test_placeholders_may_have_text_around_them(template: str, expected: str) -> None:
    assert filled(template, "cpu", "yhat") == expected


def test_a_query_alias_that_looks_like_a_placeholder_stays_as_it_is() -> None:
    assert filled("$QUERY_KEY", "$VAR", "yhat") == "$VAR"


def test_generated_labels_start_with_name_and_for() -> None:
    batch = make_batch([{}], {"y": [[1.0]]})
    text = {"team": "a", "for": "q_$QUERY_KEY", "__name__": "pre_$VAR"}
    assert list(generated_labels(text, batch, "yhat_1h").items()) == [
        ("__name__", "pre_yhat_1h"),
        ("for", "q_cpu"),
        ("team", "a"),
        ("model_alias", "m"),
        ("scheduler_alias", "s"),
        ("preset", "default"),
    ]


def test_the_oldest_configs_write_no_aliases() -> None:
    batch = make_batch([{}], {"y": [[1.0]]}, aliases=NO_ALIASES)
    assert generated_labels(METRIC_FORMAT, batch, "y") == {"__name__": "y", "for": "cpu"}


def test_generated_labels_replace_received_ones() -> None:
    generated = generated_labels(METRIC_FORMAT, make_batch([{}], {"y": [[1.0]]}), "y")
    labels = {"__name__": "up", "for": "x", "model_alias": "x", "preset": "x", "job": "node", "empty": ""}
    assert received_labels(labels, generated) == {"job": "node"}


def test_an_alias_that_is_not_written_leaves_the_received_label() -> None:
    batch = make_batch([{}], {"y": [[1.0]]}, aliases=NO_ALIASES)
    generated = generated_labels(METRIC_FORMAT, batch, "y")
    assert received_labels({"model_alias": "theirs"}, generated) == {"model_alias": "theirs"}


def test_tenancy_labels_come_before_other_received_ones() -> None:
    assert list(received_labels({"a": "1", "vm_project_id": "2", "vm_account_id": "3"}, ())) == [
        "vm_account_id",
        "vm_project_id",
        "a",
    ]


@pytest.mark.parametrize(
    ("tenant_id", "labels", "start"),
    [
        ("", {"a": "1"}, None),
        ("3:4", {"a": "1"}, None),
        ("multitenant", {"vm_account_id": "1", "a": "1"}, None),
        ("multitenant", {"a": "1"}, "The label `vm_account_id` was not found"),
        ("", {"vm_account_id": "1"}, "The label set for the metric {'vm_account_id': '1'} "),
        ("0", {"vm_account_id": "1"}, "The label set for the metric "),
        ("1:2", {"vm_project_id": "1"}, "The label set for the metric "),
    ],
)
def test_tenancy_table(
    tenant_id: str, labels: dict[str, str], start: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    warnings = LabelWarnings(tenant_id)
    with caplog.at_level(logging.DEBUG):
        for query_key in ("cpu", "cpu", "disk"):
            warnings.check(query_key, ("__name__",), labels)
    messages = [record.getMessage() for record in caplog.records]
    if start is None:
        assert messages == []
    else:
        assert len(messages) == 2
        assert messages[0].startswith(start)
        assert "contains multi-tenancy labels" in messages[0] or "0:0" in messages[0]


def test_labels_beyond_thirty_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    warnings = LabelWarnings("")
    labels = {f"l{i:02}": "v" for i in range(30)}
    for _ in range(2):
        warnings.check("cpu", ("__name__", "for"), labels)
    assert [r.getMessage() for r in caplog.records] == [
        "query 'cpu': a series has 32 labels; a database that keeps 30 (-maxLabelsPerTimeseries) drops l28, l29"
    ]


def test_thirty_labels_are_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    LabelWarnings("").check("cpu", ("__name__", "for"), {f"l{i}": "v" for i in range(28)})
    assert caplog.records == []
