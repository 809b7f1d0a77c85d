"""Circuit files that a command is given: read, and held against the model."""

from pathlib import Path

from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.export import read_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.files import read_json
from knowcirc.models.shape import Shape


def read(path: Path) -> tuple[Graph, Circuit, str]:
    """Graph and circuit of a file, and the weight processing that it was found under.

    Raises:
        ValueError: if it is no circuit file.
    """
    try:
        graph, circuit = read_circuit(path)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no circuit file ({type(error).__name__}: {error})") from None
    processing = read_json(path).get("processing", "none")
    if processing not in ("none", "folded"):
        raise ValueError(f"{path}: processing {processing!r} is none of none, folded")
    return graph, circuit, str(processing)


def check_fit(path: Path, graph: Graph, shape: Shape) -> None:
    """Make sure that the circuit's graph is the model's.

    Raises:
        ValueError: naming the sizes that differ.
    """
    sizes = (
        ("layers", graph.n_layers, shape.n_layers),
        ("heads", graph.n_heads, shape.n_heads),
        (f"{graph.kv} K/V inputs", graph.n_kv, Graph.of(shape, graph.kv).n_kv),
    )
    if odd := [f"{found} {name} (the model: {expected})" for name, found, expected in sizes if found != expected]:
        raise ValueError(
            f"{path} is a circuit of another model: it has {', '.join(odd)}; give the model it was found in"
        )
