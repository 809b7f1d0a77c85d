"""What the campaigns of faults found is told as it is."""

from inputs.campaigns import in_the_engine, read, reasons, running, survivors


def test_every_fault_that_no_test_sees_says_why_it_stays() -> None:
    found = read("mutation/found.json")
    unseen = [(module, row["was"], row["fault"]) for module, rows in found.items() for row in survivors(rows)]
    assert set(unseen) == set(reasons())
    assert all(why.strip() for why in reasons().values())


def test_faults_that_are_seen_are_counted_and_the_others_listed() -> None:
    rows = [
        {"was": "a | b", "fault": "a & b", "outcome": "survived"},
        {"was": "x = 1", "fault": "x = 2", "outcome": "killed"},
        {"was": "x -= 1", "fault": "x += 1", "outcome": "endless"},
    ]
    page = in_the_engine({"circuits/graph.py": rows}, {("circuits/graph.py", "a | b", "a & b"): "the same set"})
    assert "see 2 of 3;" in page
    assert "| `circuits/graph.py` | 3 | 2 |" in page
    assert "| `circuits/graph.py` | `a \\| b` | `a & b` | the same set |" in page
    assert "no test sees" not in in_the_engine({"circuits/graph.py": rows[1:]}, {})


def test_kills_are_counted_by_kind_and_other_faults_have_their_outcome() -> None:
    outcomes = {
        "test_files.py::test_a_damaged_model_is_named[emptied]": "failed",
        "test_kills.py::test_killed": "passed",
    }
    page = running({"kills": {"job": 67}, "outcomes": outcomes})
    assert "| one job killed (`SIGKILL`) | 67 | the next runs go on" in page
    assert "| one job killed (`SIGKILL`) | 67 | failed |" in running(
        {"kills": {"job": 67}, "outcomes": {"killed": "error"}}
    )
    assert "| a damaged model is named: `emptied` | 1 | failed |" in page
    assert "test killed" not in page
