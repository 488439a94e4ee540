"""One YAML text to plain maps, lists and scalars; placeholders filled in, size and depth bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

_MAX_DEPTH = 64
_MAX_NODES = 1_000_000
_PLACEHOLDER = re.compile(r"%\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Private-use characters stand for the brackets while YAML is parsed: a plain scalar may not begin with %.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKED = re.compile(f"{_OPEN}([A-Za-z0-9_]+){_CLOSE}")
_QUOTED = re.compile(r"'[^']{2,}'")

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(ValueError):
    """A text that is not usable YAML; the message names the line and quotes nothing of it."""


class _ConfigLoader(_Loader):  # type: ignore[misc] # which base it is depends on how PyYAML was built
    """Keys are always text, only whole decimal numbers and plain floats are numbers.

    YAML 1.1 as PyYAML reads it turns 10:30 into 630, 0123 into 83, 1:2 into 62 and a date into an object: here they
    stay the text that was written, which is what `start_from`, `tenant_id` and passwords need.
    """

    environ: Mapping[str, str]
    repeated: list[str]

    def construct_scalar(self, node: Any) -> Any:
        return _filled(super().construct_scalar(node), self.environ)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        own = {id(key) for key, _ in node.value} if isinstance(node, yaml.MappingNode) else set()
        self.flatten_mapping(node)
        result: dict[str, Any] = {}
        from_here: set[str] = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise DocumentError(f"line {key_node.start_mark.line + 1}: a key must be plain text")
            key = _filled(key_node.value, self.environ)
            if id(key_node) in own:
                if key in from_here:
                    self.repeated.append(f"line {key_node.start_mark.line + 1}: key `{key}` is written twice")
                from_here.add(key)
            result[key] = self.construct_object(value_node, deep=True)
        return result


_ConfigLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF", "tTfFyYnNoO"),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
     "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):  # fmt: skip
    _ConfigLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def _construct_text(loader: Any, node: Any) -> Any:
    """Text; where a placeholder in unquoted text was filled in, what the result means unquoted."""
    text = loader.construct_scalar(node)
    if not node.style and _OPEN in node.value:
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        if tag != node.tag and not tag.endswith(":merge"):
            return loader.construct_object(yaml.ScalarNode(tag, text, node.start_mark, node.end_mark))
    return text


def _construct_map(loader: Any, node: Any) -> dict[str, Any]:
    return dict(loader.construct_mapping(node))


_ConfigLoader.yaml_constructors = {
    f"tag:yaml.org,2002:{name}": _Loader.yaml_constructors[f"tag:yaml.org,2002:{name}"]
    for name in ("null", "bool", "int", "float", "seq")
}
_ConfigLoader.add_constructor("tag:yaml.org,2002:str", _construct_text)
_ConfigLoader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_ConfigLoader.add_constructor(None, _Loader.construct_undefined)


def _filled(text: str, environ: Mapping[str, str]) -> str:
    """Placeholders of variables that are set replaced by their values; others as they were written."""
    return _MARKED.sub(lambda m: environ.get(m[1], f"%{{{m[1]}}}"), text) if _OPEN in text else text


def unset_variables(text: str) -> list[str]:
    """Names of the placeholders that a loaded text still holds."""
    return _PLACEHOLDER.findall(text)


def parse_document(text: str, environ: Mapping[str, str]) -> tuple[Any, list[str]]:
    """What a YAML text says, and its keys that are written twice.

    Values of variables only ever fill scalars, so no value can change the structure.

    Raises
    ------
    DocumentError : the text is not YAML, or exceeds the bounds on depth and size.
    """
    marked = _PLACEHOLDER.sub(f"{_OPEN}\\1{_CLOSE}", text)
    try:
        _check_bounds(marked)
        loader = _ConfigLoader(marked)
        try:
            loader.environ, loader.repeated = environ, []
            node = loader.get_single_node()
            if node is None:
                return None, []
            _check_aliases(node)
            return loader.construct_document(node), loader.repeated
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as err:
        where = f"line {err.problem_mark.line + 1}: " if err.problem_mark else ""
        # What stands in quotes is the text's own, perhaps a password.
        problem = _QUOTED.sub("a part of it", err.problem or "not YAML")
        raise DocumentError(f"{where}{problem}") from None
    except DocumentError:
        raise
    except ValueError:
        raise DocumentError("a value does not fit its tag") from None
    except yaml.YAMLError:
        raise DocumentError("not YAML: it holds a character that is not allowed") from None


def _check_bounds(text: str) -> None:
    """Depth and size by events, which needs no recursion."""
    depth = 0
    for n_nodes, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH or n_nodes > _MAX_NODES:
            bound = f"{_MAX_DEPTH} levels deep" if depth > _MAX_DEPTH else f"{_MAX_NODES} values"
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise DocumentError(f"line {line}: larger than {bound}")


def _check_aliases(node: Any) -> None:
    """Refuse anchors that contain themselves or expand to more than the bound."""
    sizes: dict[int, int] = {}

    def size(current: Any) -> int:
        known = sizes.get(id(current))
        if known == 0:
            raise DocumentError(f"line {current.start_mark.line + 1}: an anchor contains itself")
        if known is None:
            sizes[id(current)] = 0
            children = current.value if isinstance(current.value, list) else []
            pairs = isinstance(current, yaml.MappingNode)
            known = 1 + sum(sum(map(size, child)) if pairs else size(child) for child in children)
            if known > _MAX_NODES:
                raise DocumentError(f"line {current.start_mark.line + 1}: aliases expand to too many values")
            sizes[id(current)] = known
        return known

    size(node)
