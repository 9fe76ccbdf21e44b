"""A real SLURM with three nodes on this machine: CI must have it, elsewhere the tests that need it are skipped.

The daemons keep all files in a temporary folder, and use ports and a key of their own, so that a cluster to which the
machine belongs stays as it is. Debian's packages `slurm-wlm` and `munge` are installed if they are missing and the tests
run as root.
"""

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PACKAGES = ("slurm-wlm", "munge")
NODES = ("node1", "node2", "node3")
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
JobRequeue=1
SlurmdTimeout=10
KillWait=10
OverTimeLimit=5
MaxArraySize={max_array_size}
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
PartitionName=main Nodes=node1 Default=YES State=UP PriorityTier=1
PartitionName=urgent Nodes=node1 State=UP PriorityTier=9 PreemptMode=OFF
PartitionName=frail Nodes=node2 State=UP PriorityTier=1
PartitionName=calm Nodes=node3 State=UP PriorityTier=1
"""


class Cluster:
    """A running cluster. Its partitions are `main` and `urgent` on node1, where `urgent` preempts, `frail` on node2, and
    `calm` on node3.

    Args:
        folder: Folder of its files.
        max_array_size: MaxArraySize of its configuration.
        cores: Cores of each node, whatever the machine has.
    """

    def __init__(self, folder, max_array_size=3, cores=4):
        self.folder, self.configuration = folder, folder / "slurm.conf"
        self.requeued = {}
        ports = free_ports(1 + len(NODES))
        text = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            port=ports[0],
            user=getpass.getuser(),
            folder=folder,
            max_array_size=max_array_size,
        )
        for node, port in zip(NODES, ports[1:], strict=True):
            host = socket.gethostname().partition(".")[0]
            line = f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores} State=UNKNOWN\n"
            text = text.replace("PartitionName=main", f"{line}PartitionName=main")
            (folder / f"spool.{node}").mkdir()
        (folder / "state").mkdir()
        self.configuration.write_text(text)

    def start(self):
        """Start all daemons, and wait until all nodes are idle."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        names = ("socket", "pid", "log", "seed")
        socket_file, pid_file, log_file, seed_file = (self.folder / f"munge.{name}" for name in names)
        daemon = ("munged", "--force", f"--key-file={key}", f"--socket={socket_file}", f"--pid-file={pid_file}")
        subprocess.run([*daemon, f"--log-file={log_file}", f"--seed-file={seed_file}"], check=True, env=daemon_path())
        subprocess.run(["slurmctld", "-f", self.configuration], check=True, env=daemon_path())
        for node in NODES:
            self.start_node(node)
        self.wait(lambda: set(self.query("sinfo", "--noheader", "--Node", "--format=%T").split()) == {"idle"})

    def stop(self):
        """Cancel all jobs, and end all daemons."""
        pids = [int(file.read_text()) for file in self.folder.glob("*.pid")]
        self.query("scancel", f"--user={getpass.getuser()}", check=False)
        self.wait(lambda: not self.query("squeue", "--noheader", check=False), seconds=20, check=False)
        for pid in pids:
            if is_running(pid):
                os.kill(pid, signal.SIGTERM)
        self.wait(lambda: not any(map(is_running, pids)), seconds=20, check=False)

    def start_node(self, node):
        """Start the daemon of a node, or bring a dead node back."""
        subprocess.run(["slurmd", "-f", self.configuration, "-N", node], check=True, env=daemon_path())
        if "down" in self.query("sinfo", "--noheader", f"--nodes={node}", "--format=%T"):
            self.query("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def kill_node(self, node):
        """Kill the daemon of a node, and everything that runs on the node, as a power cut would.

        The node is declared dead at once; SLURM itself would wait for SlurmdTimeout.
        """
        jobs = self.query("squeue", "--noheader", f"--nodelist={node}", "--states=R", "--format=%A").split()
        slurmd = int((self.folder / f"{node}.pid").read_text())
        steps = (
            [pid for pid, title in titles() if re.match(rf"slurmstepd: \[({'|'.join(jobs)})\.", title)] if jobs else []
        )
        for pid in [slurmd, *(child for step in steps for child in [step, *descendants(step)])]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.query("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed")

    def query(self, *command, check=True):
        """What a command of SLURM prints."""
        environment = os.environ | {"SLURM_CONF": str(self.configuration)}
        result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        assert not check or result.returncode == 0, (command, result.stderr)
        return result.stdout.strip()

    def jobs(self):
        """{id of a job or a task: state} of all jobs that have not ended."""
        lines = self.query("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def release(self):
        """Let jobs that were requeued three seconds ago start; SLURM would wait for two minutes.

        A job that starts within a second is killed, because its former credential was just revoked.
        """
        lines = self.query("squeue", "--noheader", "--array", "--states=PD", "--format=%i %r").splitlines()
        requeued = [job for job, reason in (line.split(maxsplit=1) for line in lines) if reason == "BeginTime"]
        self.requeued = {job: self.requeued.get(job, time.monotonic()) for job in requeued}
        for job, since in self.requeued.items():
            if time.monotonic() > since + 3:
                self.query("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)

    def wait_until_only(self, kind, seconds=300):
        """Wait until all jobs have ended, except those whose name ends in `kind`; requeued jobs start at once."""

        def have_ended():
            self.release()
            names = self.query("squeue", "--noheader", "--format=%j").split()
            return all(kind and name.endswith(kind) for name in names)

        self.wait(have_ended, seconds)

    def wait(self, condition, seconds=300, check=True):
        """Wait until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                assert not check, (
                    f"waited for {seconds} s; {self.jobs()}\n{(self.folder / 'slurmctld.log').read_text()[-2000:]}"
                )
                return
            time.sleep(0.3)


@contextmanager
def slurm_cluster():
    """Start SLURM, and name its configuration in the environment; on leaving, end it."""
    if (reason := why_missing()) is not None:
        if os.environ.get("CI") and not os.environ.get("DMML_NO_SLURM"):
            pytest.fail(f"{reason}, and in CI the tests under SLURM must run")
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # the path of a socket must be short
    folder.chmod(0o755)
    cluster = Cluster(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.configuration))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            shutil.rmtree(folder, ignore_errors=True)


def why_missing():
    """Install SLURM if it is missing and this process may; say why it cannot run here, or return None."""
    if os.environ.get("DMML_NO_SLURM"):
        return "DMML_NO_SLURM is set: SLURM cannot be installed here"
    if not missing_programs():
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"needs SLURM: apt-get install {' '.join(PACKAGES)}"
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
    ):
        subprocess.run(command, check=False, capture_output=True, env=quiet)
    missing = missing_programs()
    return f"SLURM cannot be installed: {', '.join(missing)} is missing" if missing else None


def missing_programs():
    return [program for program in PROGRAMS if shutil.which(program, path=daemon_path()["PATH"]) is None]


def daemon_path():
    """The environment, with the folders of daemons on PATH."""
    return os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def titles():
    """(process id, command line) of all processes."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue


def descendants(pid):
    """Process ids of all descendants of a process."""
    children = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(folder.name))
    below = children.get(pid, [])
    return [each for child in below for each in [child, *descendants(child)]]


def is_running(pid):
    """Whether a process has not ended; one that waits to be reaped has."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
