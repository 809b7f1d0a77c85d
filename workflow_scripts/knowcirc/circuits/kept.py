"""Circuits of several sets of prompts in one job: each is kept when found, and an interrupted search goes on."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from knowcirc.circuits.circuit_settings import CircuitSettings
from knowcirc.circuits.discovery import Circuit, NoCircuitError, choose_partners
from knowcirc.circuits.export import load_circuits, save_circuits
from knowcirc.circuits.finding import find_circuit
from knowcirc.circuits.graph import Graph
from knowcirc.facts.prompts import Prompt
from knowcirc.files import Parts, fingerprint
from knowcirc.job import Progress, Ticker, release_pages
from knowcirc.models.loading import LanguageModel, load
from knowcirc.resume import parts_of
from knowcirc.seeding import derive

NOTED = 10.0  # seconds between two notes of how long a search has taken
log = logging.getLogger(__name__)


class KeptCircuits:
    """Finds circuits by one method for one job.

    `costs` says what each took, whenever it was found: seconds (of an interrupted search to within ten), and `passes`,
    how often each prompt passed the network, forward or back, in the mean over all that are given.
    """

    def __init__(
        self, model: LanguageModel, graph: Graph, settings: CircuitSettings, parts: Parts, sizes: Sequence[float] = ()
    ) -> None:
        self.model, self.graph, self.settings, self.parts, self.sizes = model, graph, settings, parts, sizes
        self.costs: dict[str, dict[str, float]] = {}
        self._noted = 0.0

    @classmethod
    def of(cls, job: Any, output: str, sizes: Sequence[float] = ()) -> "KeptCircuits":
        """By the parameters and with the model of a job; what is found is kept beside an output."""
        params = job.params
        model = load(Path(job.input.model).parent, **params.load_options, fast=True)
        graph = Graph.of(model.transformer.shape, params.kv)
        return cls(model, graph, CircuitSettings(**params.circuits), parts_of(job, output), sizes)

    def find(
        self,
        name: str,
        prompts: Sequence[Prompt],
        partners: Sequence[Prompt | None] | None = None,
        *,
        seed: int = 0,
        share: float | None = None,
        start: Circuit | None = None,
    ) -> Circuit:
        """The circuit of the prompts together; `name` tells it from the job's other circuits.

        `share` is its size where that is not the settings', `start` a circuit to begin with.
        """
        settings = self.settings if share is None else replace(self.settings, share=share)
        key = fingerprint(name, [(prompt.text, prompt.answer_text) for prompt in prompts])
        done, state = self.parts.path(key, ".npz"), self.parts.path(f"{key} search", ".npz")
        if not done.is_file():
            spent_before = self._spent(key) if state.is_file() else 0.0
            begun = time.perf_counter()
            ticker = Ticker(f"{name}: {self.settings.method}")

            def report(progress: Progress) -> None:
                ticker(progress)
                if time.perf_counter() - self._noted >= NOTED:
                    self._noted = time.perf_counter()
                    self.parts.put(f"{key} seconds", spent_before + self._noted - begun)

            given = [None] * len(prompts) if partners is None else partners
            found, about = find_circuit(
                self.model,
                self.graph,
                prompts,
                given,
                settings,
                seed=seed,
                sizes=self.sizes,
                state=state,
                start=start,
                report=report,
            )
            passes = float(str(about["prompt_passes"]))
            self.parts.put(key, {"seconds": spent_before + time.perf_counter() - begun, "passes": passes})
            save_circuits(done, {name: found})
            release_pages()
        spent: Any = self.parts.get(key)
        self.costs[name] = spent
        return load_circuits(done, self.settings.method)[name]

    def _spent(self, key: str) -> float:
        """The seconds of a search that was interrupted, as last noted."""
        found = self.parts.get(f"{key} seconds")
        return float(found) if isinstance(found, float) else 0.0

    def find_with_partners(self, name: str, prompts: Sequence[Prompt], seed: int) -> Circuit:
        """The circuit of the prompts together; partners are drawn among them, by the seed and the name."""
        own, partners = self._partners(name, prompts, seed)
        return self.find(name, prompts, partners, seed=own)

    def shrink(
        self, name: str, circuit: Circuit, prompts: Sequence[Prompt], seed: int, sizes: Sequence[float]
    ) -> Circuit:
        """A circuit that `find_with_partners` found, and in its `path` smaller ones: each search begins with the last.

        `sizes` are shares of the edges; those not below the circuit's are passed over. Where no circuit of a size is
        left, smaller ones are not looked for.
        """
        own, partners = self._partners(name, prompts, seed)
        path, last = dict(circuit.path), circuit
        for size in sorted(sizes, reverse=True):
            if circuit.n_edges <= size * self.graph.n_edges:
                continue
            label = f"{name}, {100 * size:g} % of the edges"
            try:
                last = self.find(label, prompts, partners, seed=own, share=size, start=last)
            except NoCircuitError as error:
                log.warning("%s: %s", label, error)
                break
            path[size] = last.edges
        return replace(circuit, path=path)

    @staticmethod
    def _partners(name: str, prompts: Sequence[Prompt], seed: int) -> tuple[int, list[Prompt | None]]:
        own = derive(seed, "partners", name)
        return own, [None if i is None else prompts[i] for i in choose_partners(prompts, own)]
