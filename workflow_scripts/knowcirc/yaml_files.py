"""Read YAML files that users write: a key that stands twice is a mistake, though YAML's readers take its last value."""

from pathlib import Path
from typing import Any

import yaml


class _Once(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, which refuses a key that a mapping has twice; in C where there is that, eight times as fast."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        lines: dict[object, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if (first := lines.setdefault(key.value, line)) != line:
                raise yaml.YAMLError(f"{key.value!r} stands twice, in lines {first} and {line}; keep one")
        return dict(super().construct_mapping(node, deep=deep))


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        ValueError: naming the file, if it is no UTF-8 text or no YAML, or has a key twice.
    """
    try:
        return yaml.load(path.read_text("utf-8-sig"), Loader=_Once)  # noqa: S506 (a safe loader)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
