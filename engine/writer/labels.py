"""The label set of a written series, and warnings about sets that the database will not keep as they are.

Generated labels stand first, since a database that limits labels drops from the end: `__name__` and `for`, the
other entries of `metric_format`, then `model_alias`, `scheduler_alias` and `preset`. Received labels follow, without
those that a generated one replaces.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping

from engine.frame import Batch

log = logging.getLogger("writer.vm")

MULTITENANT = "multitenant"
TENANCY_LABELS = ("vm_account_id", "vm_project_id")
# -maxLabelsPerTimeseries of VictoriaMetrics before 1.108; later versions allow 40.
MAX_LABELS = 30

_PLACEHOLDER = re.compile(r"\$(VAR|QUERY_KEY)")


def filled(template: str, query_key: str, column: str) -> str:
    """A `metric_format` value with `$VAR` and `$QUERY_KEY` replaced."""
    texts = {"VAR": column, "QUERY_KEY": query_key}
    return _PLACEHOLDER.sub(lambda match: texts[match[1]], template)


def generated_labels(metric_format: Mapping[str, str], batch: Batch, column: str) -> dict[str, str]:
    """The labels that every series of a column has, in the order of writing; an entry of the format wins."""
    leading = {key: metric_format[key] for key in ("__name__", "for") if key in metric_format}
    labels = {key: filled(text, batch.query_key, column) for key, text in {**leading, **metric_format}.items()}
    for key in ("model_alias", "scheduler_alias", "preset"):
        labels.setdefault(key, getattr(batch, key))
    return {key: text for key, text in labels.items() if text}


def received_labels(labels: Mapping[str, str], generated: Collection[str]) -> dict[str, str]:
    """The input's labels that are written: tenancy first, since losing it moves the series to another tenant."""
    order = sorted(labels, key=lambda key: (key not in TENANCY_LABELS, key))
    return {key: labels[key] for key in order if labels[key] and key not in generated and key != "__name__"}


class LabelWarnings:
    """Warns of label sets that are refused, cut or misplaced: each kind once for a query.

    Parameters
    ----------
    tenant_id : of the writer; empty where it has none.
    """

    def __init__(self, tenant_id: str) -> None:
        self._is_multitenant = tenant_id == MULTITENANT
        self._seen: set[tuple[str, str]] = set()

    def check(self, query_key: str, generated: Collection[str], received: Mapping[str, str]) -> None:
        """Warn about one series' labels."""
        if self._is_multitenant and TENANCY_LABELS[0] not in received:
            self._once(
                "tenant",
                query_key,
                "The label `vm_account_id` was not found in the label set %s of query %r: its series go to tenant 0:0",
                received,
                query_key,
            )
        elif not self._is_multitenant and any(key in received for key in TENANCY_LABELS):
            self._once(
                "tenant",
                query_key,
                "The label set for the metric %s of query %r contains multi-tenancy labels, but writer.tenant_id is "
                "not %r: they are written as ordinary labels",
                received,
                query_key,
                MULTITENANT,
            )
        if len(generated) + len(received) > MAX_LABELS:
            self._once(
                "count",
                query_key,
                "query %r: a series has %d labels; a database that keeps %d (-maxLabelsPerTimeseries) drops %s",
                query_key,
                len(generated) + len(received),
                MAX_LABELS,
                ", ".join([*generated, *received][MAX_LABELS:]),
            )

    def collision(self, query_key: str, labels: Mapping[str, str], generated: Collection[str]) -> None:
        """Warn that a series is left out because another one of its query is written under the same labels."""
        self._once(
            "collision",
            query_key,
            "query %r: series %s is not written, nor are others like it: without the labels that are replaced on "
            "writing (%s) it equals another series of the query; its points are counted as dropped",
            query_key,
            dict(labels),
            ", ".join(key for key in labels if key in generated),
        )

    def _once(self, kind: str, query_key: str, message: str, *args: object) -> None:
        if (kind, query_key) not in self._seen:
            self._seen.add((kind, query_key))
            log.warning(message, *args)
