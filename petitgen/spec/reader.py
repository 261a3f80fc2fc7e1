"""Reads one YAML file and checks it against its JSON schema (schemas/*.json), naming file, key path and value."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import best_match

from petitgen.errors import SpecError


def read(path: Path, schema: str) -> dict[str, Any]:
    """The contents of `path`, valid by schemas/<schema>.json. SpecError otherwise."""
    data = _load(path)
    check(path, data, schema)
    return data


def check(path: Path, data: Any, schema: str) -> None:
    """SpecError, naming `path`, if `data` is not valid by schemas/<schema>.json."""
    wrong = best_match(_validator(schema).iter_errors(data))
    if wrong is not None:
        raise SpecError(f"{path}: {_explain(wrong)}")


def _load(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml's parser: 7 times as fast
    """SafeLoader that refuses a key given twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain text", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


@lru_cache
def _validator(schema: str) -> Any:
    text = resources.files("petitgen.spec").joinpath("schemas", f"{schema}.json").read_text(encoding="utf-8")
    return _Validator(json.loads(text))


# JSON schema counts 512.0 as an integer; in YAML it is a mistake.
_Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)


def key_path(parts: Any) -> str:
    """tiles[3].waves for ("tiles", 3, "waves")."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.lstrip(".") or "the file"


def _explain(error: Any) -> str:
    """Key path, offending value and what is allowed, for the failures that the schemas can have."""
    where = key_path(error.absolute_path)
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(map(str, error.instance)) - set(known))
        return f"{where}: unknown key {', '.join(map(repr, unknown))}; allowed: {', '.join(known)}"
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))
        return f"{where}: missing key {', '.join(map(repr, missing))}"
    return f"{where}: {error.instance!r} is not allowed; {_allowed(error.validator, error.validator_value)}"


def _allowed(rule: str, value: Any) -> str:
    phrases = {
        "enum": lambda: f"one of {', '.join(map(repr, value))} is",
        "type": lambda: f"{value} is",
        "minimum": lambda: f"{value} or more is",
        "maximum": lambda: f"{value} or less is",
        "minLength": lambda: "a text that is not empty is",
        "pattern": lambda: f"a text that matches {value} is",
        "minItems": lambda: f"{value} or more entries are",
        "maxItems": lambda: f"{value} or fewer entries are",
    }
    return phrases[rule]() if rule in phrases else f"needed: {rule} {value!r}"
