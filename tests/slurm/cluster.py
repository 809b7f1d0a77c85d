"""A Slurm cluster of one machine, for a test: a controller and two nodes, one of them with a GPU that is none.

Nothing of an installed cluster is touched: all files lie in one folder, and its ports are its own. It needs root and
Debian's packages slurmctld, slurmd and slurm-client.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

COMMANDS = ("slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "srun", "scancel")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MinJobAge=600
KillWait=5
GresTypes=gpu
NodeName=plain NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 RealMemory=16000 State=UNKNOWN
NodeName=gpu NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2 RealMemory=16000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=plain,gpu Default=YES MaxTime=120 State=UP
"""
PATIENCE = 30.0  # seconds until both nodes must be idle


def lacking() -> list[str]:
    """What this machine lacks for a cluster."""
    found = [name for name in COMMANDS if shutil.which(name) is None]
    return found if os.geteuid() == 0 else [*found, "root"]


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Within it a cluster runs; gives the environment variables by which Slurm's commands find it.

    Raises:
        RuntimeError: if it does not come up, with the end of its logs.
    """
    for name in ("state", "spool-plain", "spool-gpu", "bin"):
        (folder / name).mkdir(parents=True)
    ports = _free_ports(3)
    values = dict(zip(("port", "first", "second"), ports, strict=True))
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=socket.gethostname().split(".")[0], folder=folder, **values))
    (folder / "gres.conf").write_text("AutoDetect=off\nNodeName=gpu Name=gpu File=/dev/null\n")
    # Snakemake's step plugin takes Slurm's variables out of the environment of srun, this one among them.
    step = folder / "bin/srun"
    step.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun")} "$@"\n')
    step.chmod(0o755)
    variables = {"SLURM_CONF": str(configuration), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment = {**os.environ, **variables}
    try:
        for command in (["slurmctld", "-c"], ["slurmd", "-c", "-N", "plain"], ["slurmd", "-c", "-N", "gpu"]):
            subprocess.run([*command, "-f", str(configuration)], env=environment, check=True)
        _wait(environment, folder)
        yield variables
    finally:
        for path in folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGTERM)


def _wait(environment: dict[str, str], folder: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        idle = subprocess.run(["sinfo", "-h", "-N", "-t", "idle"], env=environment, capture_output=True, text=True)
        if len(idle.stdout.split("\n")) > 2:
            return
        time.sleep(0.2)
    logs = "\n".join(path.read_text()[-1000:] for path in sorted(folder.glob("*.log")))
    raise RuntimeError(f"Slurm did not come up within {PATIENCE:.0f} s:\n{logs}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
