"""What a method measures on a prompt, as the options say; light, so that it is checked before a model is read."""

from knowcirc.circuits.methods import METHODS
from knowcirc.commands.cases import Case


def measures_of(method: str, metric: str | None, ablation: str | None, case: Case) -> tuple[str, str]:
    """Metric and ablation of one prompt: those that are given, else by what the prompt has (see `--help`)."""
    entry = METHODS[method]
    attribution = not entry.together
    usual = "kl" if entry.learned else "nll"
    metric = metric or ("logit-diff" if entry.attribution and case.paired else usual)
    return metric, ablation or ("patch" if attribution and case.corrupted is not None else "zero")
