"""`knowcirc discover --method standing`: the circuit of a size that does best alone, and what is said of it."""

import argparse
import contextlib
import logging
from collections.abc import Mapping, Sequence

from knowcirc.circuits.choices import UNITS
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.standing_files import load_standing, search_standing, settings_for
from knowcirc.commands.meter import Meter
from knowcirc.commands.models import Pair, load_model
from knowcirc.commands.searching import Found, check_references
from knowcirc.files import Parts, fingerprint
from knowcirc.models.loading import choose_device

log = logging.getLogger(__name__)


def stand(
    args: argparse.Namespace, graph: Graph, pairs: Sequence[Pair], requested: int, described: Mapping[str, object]
) -> tuple[Found, Parts]:
    """The circuit of at most `requested` edges, and the parts to be cleared once all is written.

    `described` (model, settings, prompts) is part of the identity by which an unfinished search is known again.

    Raises:
        ValueError: if no circuit of the size is found, or numbers overflow; the parts are gone then.
    """
    check_references(args, pairs)
    settings = settings_for(graph, requested, args.seed)
    model = load_model(args, args.processing)
    device = choose_device(args.device).type
    measured = (args.metric, args.ablation, args.method, args.kv, device)
    parts = Parts(args.out, fingerprint(described, settings.model_dump(), *measured))
    state = parts.path("search", ".npz")
    prompts, partners = [prompt for prompt, _ in pairs], [partner for _, partner in pairs]
    try:
        if state.is_file():
            log.info("going on from step %d", load_standing(state, graph).step)
        else:
            log.info("searching on %d prompt(s) for %d edges; kept in %s", len(pairs), requested, state.parent)
        with contextlib.closing(Meter("standing", quiet=args.quiet)) as meter:
            circuit, details = search_standing(
                model,
                graph,
                prompts,
                partners,
                settings,
                metric=args.metric,
                ablation=args.ablation,
                state=state,
                report=meter,
            )
    except ValueError:
        parts.clear()
        raise
    share, unit = 100 * circuit.n_edges / graph.n_edges, UNITS[args.metric]
    rows = [
        ("steps", f"{details['steps']}, {details['rows']} changed circuits measured"),
        ("edges", f"{circuit.n_edges} of {graph.n_edges} ({share:.2f} %), at most {requested} asked for"),
        ("nodes", f"{int(graph.nodes(circuit.edges).sum())} of {graph.n_src}"),
        (f"{args.metric}, model", f"{details['metric_model']:.6g} {unit}"),
        (f"{args.metric}, circuit", f"{details['metric_circuit']:.6g} {unit}"),
    ]
    return Found(circuit, details, rows), parts
