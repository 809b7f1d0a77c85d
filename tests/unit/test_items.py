"""The registry of figures and tables: each entry keeps what it promises to workflow, report and documentation."""

import ast
import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from knowcirc.configuration.study import default
from knowcirc.digest import code_digest
from knowcirc.fields import value_at
from knowcirc.functions import function_of
from knowcirc.items.__main__ import markdown
from knowcirc.items.contract import Figure, Item, Table
from knowcirc.items.figures import FIGURES
from knowcirc.items.tables import TABLES
from knowcirc.tables import findings

ROOT = Path(__file__).parents[2]
ITEMS: tuple[Item, ...] = (*FIGURES, *TABLES)


@pytest.fixture(params=ITEMS, ids=lambda item: f"{type(item).__name__} {item.name}")
def item(request: pytest.FixtureRequest) -> Item:
    """Every item in turn."""
    found: Item = request.param
    return found


def needed(function: str) -> set[str]:
    """What a function must be given."""
    parameters = inspect.signature(function_of(function)).parameters.values()
    return {each.name for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD}


def test_functions_get_what_they_need_and_nothing_is_read_in_vain(item: Item) -> None:
    given = {*item.inputs, *item.settings} | (set() if getattr(item, "together", False) else {"model"})
    functions = [item.function]
    if isinstance(item, Figure) and item.prepare is not None:
        assert item.data is not None
        assert needed(item.prepare) <= given
        functions.append(item.prepare)
        given.add(item.data)
    assert needed(item.function) <= given
    parameters = {name for function in functions for name in inspect.signature(function_of(function)).parameters}
    shown = {item.data} if isinstance(item, Figure) else set()
    assert {*item.inputs, *item.settings} <= parameters | shown or "tables" in parameters


def test_data_of_a_figure_are_an_input_or_prepared() -> None:
    for figure in FIGURES:
        assert figure.data is None or figure.prepare is not None or figure.data in figure.inputs


def test_what_the_report_states_is_read_off_files_that_there_are_each_under_its_own_name() -> None:
    for item in ITEMS:
        own = {"table"} if isinstance(item, Table) else {"data"} if item.data else set()
        assert set(item.stated.values()) <= own | set(item.inputs)
    names = [name for item in ITEMS for name in item.stated]
    assert len(names) == len(set(names))
    read = {
        node.slice.value
        for node in ast.walk(ast.parse(inspect.getsource(findings.collect)))
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("tables", "documents")
    }
    assert read == set(names)


def test_settings_stand_in_the_configuration(item: Item, config: dict[str, Any]) -> None:
    for place in item.settings.values():
        value_at(config, place)


def test_what_only_some_studies_have_is_asked_for_by_a_setting_and_not_stated(item: Item) -> None:
    if item.where:
        assert not default(item.where)
        assert not item.stated


def test_a_table_says_what_each_column_holds_once() -> None:
    for table in TABLES:
        names = Counter(name for column in table.columns for name in column.names)
        assert not [name for name, times in names.items() if times > 1], table.name
        assert {"model", *table.one_row_for} <= set(names)
        assert table.one_row_for
        assert all(column.meaning for column in table.columns)


def test_every_item_has_a_caption_and_every_caption_an_item() -> None:
    captions = {path.stem for path in (ROOT / "rules/captions").glob("*.rst")}
    assert captions == {item.name for item in ITEMS}
    assert len(captions) == len(ITEMS)


def test_the_documentation_lists_the_items() -> None:
    assert (ROOT / "docs/items.md").read_text("utf-8") == f"{markdown()}\n"  # python -m knowcirc.items


def test_an_item_depends_on_the_modules_of_its_own_function() -> None:
    script = ROOT / "workflow_scripts/plot_item.py"
    one, other = (code_digest(script, f"knowcirc.plots.{name}") for name in ("sweep", "ranks"))
    assert len({code_digest(script), one, other}) == 3
    imported = {
        str(node.module) for node in ast.walk(ast.parse(script.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)
    }
    assert imported <= {"knowcirc.files", "knowcirc.items.make", "knowcirc.job", "knowcirc.plots.style"}


def test_names_of_the_two_kinds_are_apart() -> None:
    assert all(isinstance(item, Figure) for item in FIGURES)
    assert all(isinstance(item, Table) for item in TABLES)
