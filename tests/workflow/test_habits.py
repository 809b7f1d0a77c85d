"""The habits of the house that a reader relies on: thin scripts, one per rule, no hidden inputs, short files."""

import ast
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from copies import PARTS as WORKFLOW
from knowcirc import cli

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "workflow_scripts").glob("*.py"))
LIBRARY = sorted((ROOT / "workflow_scripts/knowcirc").rglob("*.py"))
ITEM_SCRIPTS = {"plot_item", "tabulate_item"}  # of the rules that are made from the registry of items
COMMANDS = ROOT / "workflow_scripts/knowcirc/commands"
SHARED = {"gather_tables": "gather_", "sweep_edits": "sweep_"}
"""Scripts of several rules, and how the names of these begin."""
PARTS = ("add", "prepare", "run")  # of a command
RULES = sorted((ROOT / "rules").glob("*.smk"))


def rules_with_scripts() -> dict[str, str]:
    """Each rule that runs a script, with the script's stem."""
    text = "\n".join(path.read_text("utf-8") for path in RULES)
    pieces = re.split(r"^rule (\w+):$", text, flags=re.MULTILINE)[1:]
    bodies = dict(zip(pieces[::2], pieces[1::2], strict=True))
    found = {name: re.search(r'"\.\./workflow_scripts/(\w+)\.py"', body) for name, body in bodies.items()}
    return {name: match[1] for name, match in found.items() if match}


def test_each_script_belongs_to_the_rule_of_its_name() -> None:
    scripts = rules_with_scripts()
    assert {path.stem for path in SCRIPTS} == set(scripts.values()) | ITEM_SCRIPTS
    for name, script in scripts.items():
        assert name.startswith(SHARED[script]) if script in SHARED else name == script


def test_each_rule_with_a_script_tracks_the_code_it_uses() -> None:
    text = "\n".join(path.read_text("utf-8") for path in RULES)
    of_scripts = set(re.findall(r'code=(?:code|method|editing)_digest\(\s*"(\w+)"', text))
    own = {"discover_circuits": "discovery", "edit_facts": "edits", "compare_methods": "comparison"}
    own |= {"shrink_circuits": "shrinking", "edit_questions": "questions", "resample_circuits": "resampling"}
    own |= {"edit_in_sequence": "sequence", "ask_benchmark": "benchmark"}
    assert of_scripts | set(own) == set(rules_with_scripts().values())
    assert len(re.findall(r"\bcode=", text)) == len(rules_with_scripts()) + len(ITEM_SCRIPTS)
    assert all(text.count(f"code=digest_of_{name}") == 1 for name in own.values())
    assert set(re.findall(r'code=item_digest\("(\w+)", item\)', text)) == ITEM_SCRIPTS


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_thin_and_reads_no_configuration(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 60
    assert "snakemake.config" not in text
    assert not re.search(r"\b(Parts|fingerprint)\(", text), "what is kept is keyed by knowcirc.resume"
    defined = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assert defined == ["main"]


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT / "workflow_scripts")))
def test_library_modules_are_short_and_documented(path: Path) -> None:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert len(text.splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, node.name
    assert not re.search(r"import pickle|torch\.load\(|trust_remote_code\s*=\s*True", text)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_is_one_module(name: str) -> None:
    """What it accepts, its checks, what it does; nothing that stands before `run` imports a library by the way."""
    tree = ast.parse((COMMANDS / f"{name}.py").read_text("utf-8"))
    assert str(ast.get_docstring(tree)).startswith(f"`knowcirc {name}`: ")
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = [function.name for function in functions]
    assert [each for each in names if each in PARTS] == list(PARTS)
    before = functions[: names.index("run")]
    assert not [node for each in before for node in ast.walk(each) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_commands_are_registered_and_they_alone_import_for_the_type_checker() -> None:
    """Such a module is left out of the checks of types at run time (`tests/conftest.py`)."""
    texts = {path: path.read_text("utf-8") for path in LIBRARY}
    commands = {COMMANDS / f"{name}.py" for name in cli.COMMANDS}
    assert {path for path in texts if path.parent == COMMANDS and "\ndef add(" in texts[path]} == commands
    assert {path for path, text in texts.items() if "TYPE_CHECKING" in text} <= commands


def test_only_common_defines_functions_and_the_snakefile_is_short() -> None:
    assert [path.name for path in RULES if re.search(r"^def ", path.read_text("utf-8"), re.MULTILINE)] == ["common.smk"]
    assert len((ROOT / "Snakefile").read_text("utf-8").splitlines()) < 60


ROOMS = {
    "models": (),
    "facts": ("models",),
    "circuits": ("models", "facts"),
    "tracing": ("models", "facts"),
    "editing": ("models", "facts"),
    "reading": ("models", "facts", "circuits"),
    "behaviours": ("models", "facts", "circuits", "reading"),
    "edited": ("models", "facts", "circuits", "reading", "editing", "behaviours"),
    "tables": ("circuits", "tracing", "editing"),
    "plots": ("circuits", "editing"),
    "explorer": ("circuits",),
    "items": ("plots",),
    "report": ("items",),
    "configuration": ("circuits", "editing", "facts", "models", "tracing"),
}
"""What each room of the library may import of the others."""


def test_dependencies_inside_the_library_point_one_way() -> None:
    assert {path.parent.name for path in LIBRARY} == {*ROOMS, "knowcirc", "commands"}
    for path in LIBRARY:
        room = path.parent.name
        if room not in ROOMS:
            continue
        text = path.read_text("utf-8")
        rooms = set(re.findall(rf"from knowcirc\.({'|'.join([*ROOMS, 'commands'])})\b", text))
        assert rooms <= {*ROOMS[room], room}, path
        assert room == "plots" or "matplotlib" not in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_reads_what_its_rule_gives(path: Path) -> None:
    """Parameters, inputs and outputs by name; the tests of scripts make these up, and would not see a slip."""
    text = "\n".join(each.read_text("utf-8") for each in RULES)
    rules = [block for block in re.split(r"(?m)^ *rule\b", text) if f"workflow_scripts/{path.stem}.py" in block]
    assert rules
    script = path.read_text("utf-8").replace("job.params", "params")
    read = {
        "params": set(re.findall(r"\bparams\.(\w+)", script)),
        "input": set(re.findall(r"job\.input\.(\w+)", script)),
        "output": set(re.findall(r"job\.output\.(\w+)", script)),
    }
    for kind, names in read.items():
        for rule in rules:
            found = re.search(
                rf"(?ms)^ +{kind}:\n(.*?)(?=^ +(?:output|log|params|script|benchmark|threads|localrule):)", rule
            )
            given = set(re.findall(r"(?m)^ +\**(\w+)=", found[1])) if found else set()
            loose = found is not None and "**" in found[1]  # an item's, by name
            assert loose or names - {"items", "get"} <= given, (kind, names - given)


@pytest.mark.parametrize("path", sorted((ROOT / "tests/benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_imports_what_there_is(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("knowcirc"):
            module = importlib.import_module(str(node.module))
            names = [name.name for name in node.names if not hasattr(module, name.name)]
            assert [name for name in names if importlib.util.find_spec(f"{node.module}.{name}") is None] == []


def test_the_lock_file_has_the_pins_of_the_requirements_with_hashes() -> None:
    def pins(name: str) -> set[str]:
        found = re.findall(r"^([\w.-]+)(==[\w.]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)
        return {package.lower().replace("_", "-") + version for package, version in found}

    locked = pins("requirements.lock")
    assert locked == {pin for pin in pins("requirements.txt") if not pin.startswith("torch==")}
    blocks = re.split(r"^(?=[\w.-]+==)", (ROOT / "requirements.lock").read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert len(blocks) == len(locked)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)


def test_the_image_holds_the_workflow() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    let_in = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), flags=re.MULTILINE)
    needed = {*WORKFLOW, "pyproject.toml", "requirements.txt", project["readme"], *project["license-files"]}
    assert set(let_in) == needed
    assert all((ROOT / name).exists() for name in needed)
