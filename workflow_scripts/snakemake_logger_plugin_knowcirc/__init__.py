"""The logger that `make` asks Snakemake for, `--logger knowcirc`. What it says stands in `knowcirc.told`."""

import logging
import os
import sys

from snakemake_interface_logger_plugins.base import LogHandlerBase

from knowcirc.job import QUIET_JOBS
from knowcirc.told import Teller, screen


class LogHandler(LogHandlerBase):
    """Hands Snakemake's events to a `Teller`; a dry run and --verbose are told as Snakemake tells them."""

    def __post_init__(self) -> None:
        """Choose who tells the run, and let jobs keep their progress to their logs, which the teller reads.

        Bars that libraries draw (tqdm) would run over the lines.
        """
        self.plain: logging.Handler | None = None
        self.teller: Teller | None = None
        if self.common_settings.dryrun or self.common_settings.verbose:
            self.plain = self._as_snakemake()
        else:
            os.environ |= {QUIET_JOBS: "1", "TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
            shown = screen(sys.stderr)
            shown.say("Reading the workflow, and what is done of it ...")
            self.teller = Teller(shown)

    def _as_snakemake(self) -> logging.Handler:
        from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

        said = self.common_settings
        told = DefaultFilter(said.quiet, said.debug_dag, said.verbose, said.dryrun, said.printshellcmds)
        formatter = DefaultFormatter(said.quiet, said.show_failed_logs)
        return ColorizingTextHandler(nocolor=said.nocolor, stream=sys.stderr, formatter=formatter, filter=told)

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one event."""
        if self.plain is not None:
            self.plain.handle(record)
        elif self.teller is not None:
            self.teller.tell(record)

    def close(self) -> None:
        """Say how the run ended."""
        if self.teller is not None:
            self.teller.end()
            self.teller = None
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """It takes the place of Snakemake's own words on the terminal; those go to .snakemake/log as ever."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """It writes no file."""
        return False

    @property
    def has_filter(self) -> bool:
        """It chooses by itself what to tell."""
        return True

    @property
    def has_formatter(self) -> bool:
        """It words events by itself."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """It needs no graph of rules."""
        return False
