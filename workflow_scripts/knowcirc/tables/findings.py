"""The run's main numbers, each read off one of its tables or figures' data: what captions and README may state."""

from typing import Any

import pandas as pd

from knowcirc.circuits.relation_table import ALL, MANY, OPEN
from knowcirc.statistics import bootstrap
from knowcirc.tracing.averages import peaks

ROLE_TEXTS = {
    "subject_first": "the subject's first token",
    "subject_middle": "the subject's middle tokens",
    "subject_last": "the subject's last token",
    "first_subsequent": "the first token after the subject",
    "further": "the further tokens",
    "last": "the last token",
}
SHOWCASE = (
    *("prompt", "answer", "p_model", "p_circuit", "n_edges", "edge_share", "method"),
    *("tests", "tau", "metric", "metric_start", "metric_circuit"),  # of ACDC alone
)


def collect(tables: dict[str, pd.DataFrame], documents: dict[str, dict[str, object]]) -> dict[str, object]:
    """Plain values by topic, of the tables and documents that items of the registry name as `stated`."""
    drawing, attention = documents["drawing"], documents["attention"]
    return {
        "showcase": {key: drawing.get(key) for key in SHOWCASE},
        "known": _known(tables["known"]),
        "tracing": _tracing(tables["effects"]) | {"severed": _severed(tables["severed"])},
        "circuits": _circuits(tables["circuits"]),
        "ranks": _ranks(tables["ranks"]),
        "editing": _editing(tables["editing"]),
        "questions": _questions(tables["questions"]),
        "sweep": _sweep(tables["sweep"]),
        "edited": _edited(tables["edited"]),
        "components": _components(tables["heads"]),
        "ablation": _ablation(tables["ablation"]),
        "showcase_tokens": _tokens(tables["tokens"]) | {"prompt": documents["token_meta"]["prompt"]},
        "overlap": _overlap(tables["overlap"]),
        "portability": _portability(tables["portability"]),
        "claims": _claims(tables["claims"]),
        "verdicts": {name: int((tables["claims"]["holds"] == name).sum()) for name in ("yes", "no", "unclear")},
        "published": _published(tables["published"]),
        "wrong": _wrong(tables["wrong"], tables["known"]),
        "hops": {str(name): _numbers(row) for name, row in tables["hops"].set_index("composition").iterrows()},
        "reverse": {str(name): _numbers(row) for name, row in tables["both_ways"].set_index("relation").iterrows()},
        "hallucination": {str(case["case"]): case for case in documents["hallucination"]["meta"]},  # type: ignore[attr-defined]
        "icl": {"showcase": attention} | _in_context(tables["icl"]),
    }


def _known(table: pd.DataFrame) -> dict[str, object]:
    return {
        "relations": len(table),
        "facts": int(table["n"].sum()),
        "hit_at_1": float((table["hit_at_1"] * table["n"]).sum() / table["n"].sum()),
        "hit_at_10": float((table["hit_at_10"] * table["n"]).sum() / table["n"].sum())
        if "hit_at_10" in table
        else None,
        "wrong_of_right_type": int(table["n_wrong_of_right_type"].sum()),
    }


def _tracing(table: pd.DataFrame) -> dict[str, object]:
    total = table[table.kind == "total"].iloc[0]
    found: dict[str, object] = {"total": {key: float(total[key]) for key in ("effect", "effect_low", "effect_high")}}
    for kind, peak in peaks(table).items():
        numbers = {key: float(str(peak[key])) for key in ("effect", "effect_low", "effect_high")}
        found[kind] = {**numbers, "layer": peak["layer"], "role": peak["role"], "where": ROLE_TEXTS[str(peak["role"])]}
    early = table[(table.role == "subject_last") & (table.kind == "mlp")]
    late = table[(table.role == "last") & (table.kind == "attention")]
    state = table[(table.role == "subject_last") & (table.kind == "state")]
    for name, group in (("state_at_subject", state), ("mlp_at_subject", early), ("attention_at_last", late)):
        best = group.loc[group["effect"].idxmax()]
        found[name] = {"layer": int(best["layer"]), "effect": float(best["effect"])}
    return {**found, "n": int(total["n"])}


def _severed(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Effects of single states at the subject's last token by what is severed: where the intact effect peaks."""
    intact = table[table.severed == "none"]
    peak = int(intact.loc[intact["effect"].idxmax(), "layer"])
    rows = table[table.layer == peak]
    return {
        str(row["severed"]): {
            "layer": peak,
            **{key: float(row[key]) for key in ("effect", "effect_low", "effect_high")},
        }
        for _, row in rows.iterrows()
    }


def _circuits(table: pd.DataFrame) -> dict[str, object]:
    relations = table[~table["relation"].isin([ALL, OPEN])]
    table = relations[relations["ablation"] == "zero"]
    means = relations[relations["ablation"] == "mean"]
    first = table[table.method == table.method.iloc[0]]
    methods = {
        str(method): _alone(rows, means[means.method == method]) for method, rows in table.groupby("method", sort=False)
    }
    names = ("d_test_original", "d_test_circuit", "d_test_random", "faithfulness", "faithfulness_random", "edge_share")
    found: dict[str, object] = {name: float(first[name].mean()) for name in names}
    interval = bootstrap(first["faithfulness"].dropna().tolist())
    beats = first["faithfulness_low"] > first["faithfulness_random_high"]
    return {
        **found,
        "faithfulness_low": interval.low,
        "faithfulness_high": interval.high,
        "method": first.method.iloc[0],
        "methods": methods,
        "relations": len(first),
        "beats_random": int(beats.sum()),
        "not_beating": first.loc[~beats, "relation"].tolist(),
    }


def _alone(rows: pd.DataFrame, means: pd.DataFrame) -> dict[str, object]:
    """A method's circuits alone: means over relations; `means` are its rows under mean ablation."""
    hits = ("d_test_original", "d_test_circuit", "d_test_random", "edge_share")
    control = ("d_test_others_original", "d_test_others_circuit", "d_test_among_original", "d_test_among_circuit")
    kept = {
        "kept_val": rows["d_val_kept"],
        "kept": rows["d_test_kept"],
        "kept_open": rows.loc[rows["n_objects"] > MANY, "d_test_kept"],
        "kept_mean": means["d_test_kept"],
        **{name: rows[name] for name in control},
    }
    return {
        **{name: float(rows[name].mean()) for name in hits},
        **{name: float(values.mean()) if values.notna().any() else None for name, values in kept.items()},
        **{"relations": len(rows), "open": int((rows["n_objects"] > MANY).sum())},
        "beats_random": int((rows["hit_at_10_beats_random"] == "yes").sum()),
    }


def _ranks(table: pd.DataFrame) -> dict[str, object]:
    last = table[table.quantity == "answer_at_last"].sort_values("layer")
    not_first = last[last["rank"] > 1]
    arrives: int | None = int(not_first["layer"].max()) + 1 if len(not_first) else 0
    if arrives > last["layer"].max():
        arrives = None
    subject = table[table.quantity == "answer_at_subject"]
    best = subject.loc[subject["rank"].idxmin()]
    return {
        "first_from_layer": arrives,
        "best_at_subject": int(best["rank"]),
        "best_at_subject_layer": int(best["layer"]),
    }


def _editing(table: pd.DataFrame) -> dict[str, object]:
    names = ["S", "ES", "ES_low", "ES_high", "PS", "NS", "n"]
    rows: dict[str, Any] = {
        str(row["editor"]): {name: float(row[name]) for name in names} for _, row in table.iterrows()
    }
    for _, row in table.iterrows():
        if pd.notna(row["seconds_per_edit"]):
            layer = int(row["layer"]) if pd.notna(row["layer"]) else None  # an editor may find its layers itself
            rows[str(row["editor"])] |= {"seconds": float(row["seconds_per_edit"]), "layer": layer}
    return rows


def _questions(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    names = ("efficacy", "paraphrase", "specificity", "n")
    return {str(row["editor"]): {name: float(row[name]) for name in names} for _, row in table.iterrows()}


def _sweep(table: pd.DataFrame) -> dict[str, object]:
    """The layer that the sweep finds best at the subject's last token, and what an edit does there."""
    rows = table[(table["token"] == "subject_last") & table["base"]]
    best = rows.loc[rows["score"].idxmax()]
    measures = {name: float(best[name]) for name in ("efficacy", "paraphrase", "specificity")}
    return {"layer": int(best["layer"]), "layers": len(rows), "n": int(best["n"]), **measures}


def _edited(table: pd.DataFrame) -> dict[str, object]:
    return {
        f"{row['prompt']}/{row['weights']}": {key: row[key] for key in ("head", "answer_top", "p_old", "p_new")}
        for _, row in table.iterrows()
    }


def _in_context(table: pd.DataFrame) -> dict[str, object]:
    """Means over relations: hit@10, p(answer), how many heads are new with demonstrations, and without any."""
    again = table["n_heads_again"].dropna()
    return {
        "relations": len(table),
        **{name: float(table[name].mean()) for name in ("original", "icl_heads_ablated", "random_heads_ablated")},
        **{name: float(table[name].mean()) for name in ("p_original", "p_icl_heads_ablated", "p_random_heads_ablated")},
        "new_heads": float(table["n_heads"].mean()),
        "new_heads_again": None if again.empty else float(again.mean()),
    }


def _numbers(row: pd.Series) -> dict[str, object]:
    """The numbers of a table's row, its intervals aside; counts as whole numbers."""
    names = [str(name) for name in row.index if not str(name).endswith(("_low", "_high"))]
    numbers = {name: row[name] for name in names if pd.api.types.is_number(row[name]) and pd.notna(row[name])}
    return {
        name: int(value) if name == "n" or name.startswith("n_") else float(value) for name, value in numbers.items()
    }


def _components(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    """How many heads have a role, in how many relations, and in which layers."""
    found: dict[str, dict[str, object]] = {}
    for role, rows in table.groupby("role", sort=True):
        layers = rows["layer"].astype(int)
        found[str(role)] = {
            "heads": rows["head"].nunique(),
            "relations": rows["relation"].nunique(),
            "first": int(layers.min()),
            "last": int(layers.max()),
            "median": int(layers.median()),
            "in_circuit": float(rows["in_circuit"].mean()),
        }
    return found


def _ablation(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    names = ("original", "ablated", "random", "p_original", "p_ablated", "p_random")
    return {
        str(role): {"relations": len(rows), **{name: float(rows[name].mean()) for name in names}}
        for role, rows in table.groupby("role", sort=True)
    }


def _tokens(table: pd.DataFrame) -> dict[str, Any]:
    first = {str(run): rows.iloc[0] for run, rows in table.groupby("run", sort=False)}
    runs = {
        run: {"head": row["head"], "has_role": bool(row["has_role"]), "p_answer": float(row["p_answer"])}
        for run, row in first.items()
        if run != "original"
    }
    return {"runs": runs, "p_original": float(first["original"]["p_answer"])}


def _overlap(table: pd.DataFrame) -> dict[str, object]:
    """Nodes shared and probability kept, by editor and prompt, means over the edited layers."""
    names = ("jaccard_edges", "jaccard_nodes", "kept_share")
    means = {
        f"{editor}/{prompt}": {name: float(rows[name].mean()) for name in names}
        for (editor, prompt), rows in table.groupby(["editor", "prompt"], sort=False)
    }
    return {**means, "n": int(table["n"].max())}


def _portability(table: pd.DataFrame) -> dict[str, object]:
    """The rows of two hops over all compositions, by editor."""
    rows = table[(table["question"] == "two hops") & (table["relation"] == "all")]
    return {str(editor): _numbers(row) for editor, row in rows.set_index("editor").iterrows()}


def _wrong(table: pd.DataFrame, known: pd.DataFrame) -> dict[str, object]:
    """The row of all wrong answers, and the relations that have no row of their own."""
    row = table.set_index("relation").loc["all"]
    return {**_numbers(row), "left_out": sorted(set(known["relation"]) - set(table["relation"]))}


def _claims(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    return {
        str(row["claim"]): {"value": float(row["value"]), "holds": row["holds"]}
        for _, row in table.dropna(subset=["value"]).iterrows()
    }


def _published(table: pd.DataFrame) -> dict[str, int]:
    """How many printed numbers stand beside ours, and of how many ours does not differ or has the sign."""
    beside = table.dropna(subset=["ours"])
    counts = beside.groupby("comparison")["verdict"].value_counts()
    return {
        "in_kind": int((beside["comparison"] == "in kind").sum()),
        "agree": int(sum(counts.get(("in kind", verdict), 0) for verdict in ("no different", "same sign"))),
        "same_model": int((beside["comparison"] == "same model").sum()),
        "within": int(counts.get(("same model", "within"), 0)),
    }
