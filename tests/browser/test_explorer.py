"""The circuit explorer in headless Chromium: clicks, filters, links, keys, and that no request leaves the page.

    make test-browser

Debian's packages chromium and chromium-driver, and selenium of `requirements.txt` here. Times are printed (`-s`).
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.graph import Graph
from knowcirc.explorer.packing import Shown, packed_circuits, packed_heads, packed_reading, packed_traces
from knowcirc.explorer.page import build_page

pytestmark = pytest.mark.browser
selenium = pytest.importorskip("selenium", reason="selenium is not installed: run `make test-browser`")
webdriver = pytest.importorskip("selenium.webdriver")
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

EVIL = "<script>alert(1)</script>"
GRAPH = Graph(30, 9, 3, "grouped")
TOKENS = ["<s>", "The", " language", " of", EVIL, " is"]
MOVER = "a23.h4"
RELATION = "country_language"
PATH = [("input", "a3.h1<q>"), ("a3.h1", "m7"), ("m7", "a23.h1<v>"), (MOVER, "logits")]  # a23.h1: group of heads 3 to 5
DRAW = """
const flush = () => document.querySelectorAll("canvas").forEach((one) => one.getContext("2d").getImageData(0, 0, 1, 1));
"""


def of_edges(names: list[tuple[str, str]]) -> Circuit:
    """A circuit of a few named edges; scores fall from the first to the last, the second's sign is negative."""
    edges, scores = np.zeros_like(GRAPH.valid), np.zeros(GRAPH.valid.shape)
    for place, (src, dst) in enumerate(names):
        at = GRAPH.src_names.index(src), GRAPH.dst_names.index(dst)
        edges[at], scores[at] = True, (len(names) - place) * (-1.0 if place == 1 else 1.0)
    assert (edges <= GRAPH.valid).all()
    return Circuit("acdc", edges, scores)


def large(n_edges: int) -> Circuit:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(GRAPH.valid.shape) * rng.exponential(1, GRAPH.valid.shape) ** 2 * GRAPH.valid
    edges = np.zeros_like(GRAPH.valid)
    edges.flat[np.argsort(-np.abs(scores), axis=None)[:n_edges]] = True
    return Circuit("eap-ig", edges, scores)


def reading() -> dict[str, Any]:
    n = len(TOKENS)
    rows = [[1.0 / (row + 1)] * (row + 1) for row in range(n)]
    rows[-1] = [0.0] * (n - 2) + [0.75, 0.25]
    node = {"role": None, "top": [" French", EVIL], "rank": 3, "attribution": 0.5}
    heads = [name for name in GRAPH.src_names if name.startswith("a")]
    return {
        "prompt": f"The language of {EVIL} is",
        "answer": " French",
        "tokens": TOKENS,
        "subject": [4, 5],
        "first_row": 0,
        "nodes": dict.fromkeys(GRAPH.src_names[1:], node),
        "lens": [{"top": [[EVIL, 0.5]], "rank": 2, "p": 0.25}] * 31,
        "attention": dict.fromkeys(heads, rows),
    }


def traces() -> pd.DataFrame:
    shared = {"case": 0, "prompt": EVIL, "answer": "French", "subject": EVIL, "p_clean": 0.9, "p_corrupted": 0.1}
    return pd.DataFrame(
        {
            **shared,
            "kind": kind,
            "layer": layer,
            "position": position,
            "token": token,
            "effect": 0.5 if (layer, position) == (10, 4) else 0.01 * layer,
            "in_subject": position == 4,
        }
        for kind in ("state", "mlp")
        for layer in range(30)
        for position, token in enumerate(TOKENS)
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with a small circuit, one that differs by two edges, and one of 10,000."""
    small, other = of_edges(PATH), of_edges([*PATH[:3], ("m7", "m20"), ("m20", "logits")])
    circuits = [
        Shown("small", EVIL, "Files", GRAPH, small, RELATION, (("prompt", EVIL),)),
        Shown("other", "other", "Files", GRAPH, other),
        Shown("large", "large", "Files", GRAPH, large(10_000)),
    ]
    named = {"relation": RELATION, "head": MOVER, "role": "mover", "role_share": 0.8, "facts": EVIL, "n": 5}
    data = packed_circuits(circuits) | packed_traces(traces())
    data |= {"heads": packed_heads(pd.DataFrame([named])), "readings": [packed_reading(reading(), "showcase")]}
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(build_page(EVIL, data), "utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("no chromium or chromedriver: install Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1440,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)) as driver:
        yield driver


Open = Callable[..., Any]


@pytest.fixture
def opened(chromium: Any, address: str) -> Iterator[Open]:
    """Opens the page at a hash; afterwards the console holds nothing and nothing but the page was asked for."""

    def go(state: str = "") -> Any:
        chromium.get("about:blank")
        chromium.get(f"{address}#{state}")
        assert chromium.execute_script("return document.documentElement.dataset.ready") == "yes"
        return chromium

    yield go
    assert chromium.get_log("browser") == []
    asked = [
        entry["message"]
        for entry in chromium.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert [text for text in asked if '"url":"http' in text or '"url":"ws' in text] == []


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def node(page: Any, name: str) -> Any:
    return find(page, f'[data-node="{[*GRAPH.src_names, "logits"].index(name)}"]')


def live(page: Any) -> set[str]:
    names = [*GRAPH.src_names, "logits"]
    found = page.execute_script(
        "return [...document.querySelectorAll('g.live')].map((one) => Number(one.dataset.node))"
    )
    return {names[number] for number in found}


def n_visible(page: Any) -> str:
    return str(find(page, "figcaption").text.rpartition("– ")[2])


def press(page: Any, *keys: str) -> None:
    """Keys for whatever has the focus."""
    webdriver.ActionChains(page).send_keys(*keys).perform()


def focused(page: Any) -> str:
    number = page.execute_script("return Number(document.activeElement.dataset.node ?? -1)")
    return [*GRAPH.src_names, "logits"][number] if number >= 0 else ""


def test_texts_of_facts_are_shown_as_they_are_and_run_nothing(opened: Open) -> None:
    page = opened(f"node={MOVER}")
    assert page.title == EVIL
    assert find(page, "h1").text == EVIL
    assert EVIL in find(page, "#details").text
    assert EVIL in find(page, "#notes").text
    assert page.execute_script("return document.querySelectorAll('script').length") == 3
    opened("view=traces")
    assert EVIL in find(page, "#traces").text


def test_a_click_selects_a_node_and_shows_role_attention_tokens_and_edges(opened: Open) -> None:
    page = opened()
    assert n_visible(page) == "4 edges visible"
    node(page, MOVER).click()
    text = find(page, "#details").text
    assert text.startswith(f"{MOVER} head 4 of layer 23")
    assert f"mover head in relation {RELATION}" in text
    assert "75.0 %" in text
    assert "␣French" in text
    assert "Incoming edges: 1" in text
    assert "m7 → a23.h1<v>" in text
    assert "Outgoing edges: 1" in text
    assert MOVER in find(page, "#live").get_attribute("textContent")
    find(page, ".attention li:nth-child(2) button").click()
    assert "Attention from The (position 1)" in find(page, "#details").text
    assert "50.0 %" in find(page, ".attention").text
    page.find_element("xpath", "//button[text()='m7 → a23.h1<v>']").click()
    assert find(page, "#details h2").text.startswith("m7")


def test_filters_take_edges_away_and_bring_them_back(opened: Open) -> None:
    page = opened()
    assert live(page) == {"input", "a3.h1", "m7", MOVER, "logits"}
    find(page, "#kinds-v").click()
    assert n_visible(page) == "3 edges visible"
    find(page, "#kinds-v").click()
    page.execute_script("const n = document.getElementById('n'); n.value = 500; n.dispatchEvent(new Event('input'))")
    assert n_visible(page) == "2 edges visible"  # 4 ** 0.5
    assert "2 of 4: |score| ≥ 3" in find(page, "#n-text").text
    opened("low=5&high=29")
    assert n_visible(page) == "2 edges visible"
    opened("roles=mover")
    assert live(page) == {"m7", MOVER, "logits"}


def test_two_pins_show_the_paths_between_them(opened: Open) -> None:
    page = opened("a=other&b=small")
    for name in ("a3.h1", "logits"):
        node(page, name).click()
        find(page, "#details button").click()
    assert live(page) == {"a3.h1", "m7", MOVER, "m20", "logits"}
    find(page, "#paths").click()
    assert "input" in live(page)
    press(page, Keys.ESCAPE)
    assert find(page, "#pins").text == "no node is pinned"


def test_two_circuits_overlaid_and_beside_each_other_with_their_differences(opened: Open) -> None:
    page = opened("a=small&b=other")
    assert n_visible(page) == "6 edges visible"
    assert "only-b" in node(page, "m20").get_attribute("class")
    assert "only-a" in node(page, MOVER).get_attribute("class")
    find(page, "#status-shared").click()
    assert n_visible(page) == "3 edges visible"
    find(page, "#status-shared").click()
    find(page, "#mode option[value=side]").click()
    figures = page.find_elements("css selector", "figcaption")
    assert [figure.text.rpartition("– ")[2] for figure in figures] == ["4 edges visible", "5 edges visible"]


def test_a_link_restores_the_view(opened: Open, chromium: Any) -> None:
    page = opened()
    find(page, "#a option[value=other]").click()
    find(page, "#kinds-q").click()
    node(page, "m20").click()
    find(page, "#details button").click()
    state = page.execute_script("return location.hash").removeprefix("#")
    seen = live(page), n_visible(page), find(page, "#details").text, find(page, "#pins").text
    opened("view=traces")
    opened(state)
    assert (live(page), n_visible(page), find(page, "#details").text, find(page, "#pins").text) == seen
    assert find(page, "#a").get_property("value") == "other"
    opened("a=absent&n=none&node=a99.h99&what=ever&low=-5")  # what a link says wrong is left out
    assert n_visible(page) == "4 edges visible"


def test_the_keyboard_moves_pins_clears_and_searches(opened: Open, chromium: Any) -> None:
    page = opened()
    press(page, "/")
    assert page.execute_script("return document.activeElement.id") == "search"
    find(page, "#search").send_keys("a3.1", Keys.ENTER)
    assert focused(page) == "a3.h1"
    press(page, Keys.ARROW_UP)
    assert focused(page) == "m7"
    press(page, Keys.ARROW_UP)
    assert focused(page) == MOVER
    press(page, Keys.ARROW_DOWN)
    assert focused(page) == "m7"
    press(page, Keys.ENTER)
    assert node(page, "m7").get_attribute("aria-pressed") == "true"
    assert "m7" in find(page, "#pins").text
    assert "MLP of layer 7 pinned" in find(page, "#live").get_attribute("textContent")
    press(page, Keys.ESCAPE)
    assert node(page, "m7").get_attribute("aria-pressed") == "false"
    assert find(page, "#details").text.startswith("No node is selected")
    find(page, "#search").send_keys(Keys.CONTROL, "a")
    find(page, "#search").send_keys("mover", Keys.ENTER)
    assert focused(page) == MOVER


def test_nodes_have_names_for_screen_readers_and_the_table_lists_the_edges(opened: Open) -> None:
    page = opened()
    assert node(page, MOVER).get_attribute("aria-label") == "head 4 of layer 23, mover, edges: 1 in, 1 out"
    assert node(page, "a0.h0").get_attribute("aria-hidden") == "true"
    find(page, "#edge-table summary").click()
    rows = [row.text for row in page.find_elements("css selector", "#edge-table tbody tr")]
    assert rows == ["input a3.h1 q 4", "a3.h1 m7 mlp -3", "m7 a23.h1<v> v 2", f"{MOVER} logits logits 1"]
    find(page, "#kinds-q").click()
    assert len(page.find_elements("css selector", "#edge-table tbody tr")) == 3


def test_a_trace_shows_the_three_runs_site_by_site(opened: Open) -> None:
    page = opened("view=traces")
    assert "token <script>alert(1)</script> (position 4), layer 10; effect +50.0 pp" in find(page, "#where").text
    assert [one.text for one in page.find_elements("css selector", ".runs strong")] == ["90.0 %", "10.0 %", "60.0 %"]
    page.execute_script("document.querySelector('td.at').focus()")
    press(page, Keys.ARROW_RIGHT)
    assert "layer 11; effect +11.0 pp" in find(page, "#where").text
    press(page, Keys.ARROW_DOWN)
    assert "token ␣is (position 5), layer 11" in find(page, "#where").text
    assert "21.0 % restored" in find(page, "#live").get_attribute("textContent")
    find(page, "#kind option[value=mlp]").click()
    assert "MLP outputs" in find(page, "#where").text
    assert "+50.0 pp" in find(page, "#scale").text
    assert "kind=mlp" in page.execute_script("return location.hash")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1440, 900)])
def test_nothing_is_wider_than_the_screen(opened: Open, width: int, height: int) -> None:
    page = opened()
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for state in ("a=small&b=other&node=m7", "view=traces"):
            opened(state)
            assert page.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_ten_thousand_edges_open_and_answer_fast(opened: Open) -> None:
    """The best of several, since other work on the machine only adds: under 2 s and 100 ms."""
    opening, answers, drawn = [], [], []
    for _ in range(3):
        page = opened("a=large&n=10000")
        opening.append(page.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert n_visible(page) == "10,000 edges visible"
    script = f"""{DRAW}
    const start = performance.now();
    document.getElementById("kinds-k").click();
    const answered = performance.now();
    flush();
    return [answered - start, performance.now() - start];"""
    for _ in range(8):
        answer, all_drawn = page.execute_script(script)
        answers.append(answer)
        drawn.append(all_drawn)
    print(f"open {min(opening):.0f} ms, filter {min(answers):.0f} ms, with pixels {min(drawn):.0f} ms")  # noqa: T201
    said = [entry for entry in page.get_log("browser") if "getImageData" not in entry["message"]]  # `flush` is ours
    assert said == []
    assert min(opening) < 2000
    assert min(answers) < 100
