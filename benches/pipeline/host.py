"""What every row needs: senders and peers built or installed, processes run on a core, what they cost."""
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Program -> Debian package.
PEERS = {"nfcapd": "nfdump", "nfpcapd": "nfdump", "nfacctd": "pmacct", "softflowd": "softflowd", "tcpreplay": "tcpreplay"}
# Tool -> (source below WEIR_BENCH, compiler's options).
TOOLS = {
    "nfsend": ("netflow/nfsend.c", ["-O2"]),
    "sink": ("netflow/sink.c", ["-O2"]),
    "floor": ("packets/floor.c", ["-O3", "-march=native", "-lpcap"]),
    "mkbig": ("packets/mkbig.c", ["-O2", "-lpcap"]),
    "mksynth": ("packets/mksynth.c", ["-O2"]),
}


class Absent(Exception):
    """What a row or a peer needs is not on this machine; the text says what."""


class Bench:
    """The settings of one run of the whole bench."""

    def __init__(self, options):
        self.weir, self.quick, self.runs = options.weir, options.quick, options.runs
        self.seconds = options.seconds
        self.sources = pathlib.Path(options.sources).resolve()
        self.vectors = pathlib.Path(options.vectors).resolve()
        self.work = pathlib.Path(options.work).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Absent("two cores: one to send, one to collect")
        come_first()
        self.send_core, self.collect_core = cores[0], cores[1]

    def tool(self, name):
        """A sender, floor or generator, built once."""
        source, options = TOOLS[name]
        source, built = self.sources / source, self.work / name
        if not source.is_file():
            raise Absent(f"{source.name} (WEIR_BENCH names its folder; {self.sources} has none)")
        if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
            flags = [option for option in options if not option.startswith("-l")]
            libraries = [option for option in options if option.startswith("-l")]
            run(["cc", *flags, "-o", str(built), str(source), *libraries])
        return str(built)

    def peer(self, name):
        """A peer from the distribution; installed by `install_peers` where that was possible."""
        if not shutil.which(name):
            raise Absent(f"{name} (package {PEERS[name]})")
        return name

    def folder(self, name):
        """An empty folder."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path


def come_first():
    """Has this process and its children, senders and all sides alike, run before whatever else the machine does."""
    try:
        os.setsid()
    except OSError:
        pass  # it leads its group already
    try:
        pathlib.Path("/proc/self/autogroup").write_text("-20")
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    except OSError:
        pass  # only root may, and some kernels know no groups; then the others' load shows


def install_peers():
    """Installs the peers that are missing, where this is Debian and we are root."""
    missing = sorted({package for program, package in PEERS.items() if not shutil.which(program)})
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        print(f"not installed, and not installable here: {', '.join(missing)}", flush=True)
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-qq", *missing]
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        subprocess.run(["apt-get", "update", "-qq"], env=environment, stdout=subprocess.DEVNULL, check=False)
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(f"installing {', '.join(missing)} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
    # The packages start services of their own; nothing here wants them.
    for service in ("nfdump", "nfacctd", "pmacctd", "sfacctd", "uacctd", "softflowd"):
        subprocess.run(["systemctl", "stop", service], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def run(command, timeout=600, **options):
    """Runs a command to its end; returns what it wrote. Raises with its last words if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                          check=False, **options)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} ended with {done.returncode}: {' / '.join(words)}")
    return done.stdout


def cpu_to_the_end(command, core, log, timeout=900):
    """Runs a command on a core to its end; returns (CPU seconds of it and its children, peak RSS in MiB)."""
    process = subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], stdout=log, stderr=log)
    deadline = time.monotonic() + timeout
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise RuntimeError(f"{command[0]} did not end in {timeout} s")
        time.sleep(0.01)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


class Process:
    """A server on a core, ended when the block is left."""

    def __init__(self, command, core, log, stop=signal.SIGTERM, prefix=()):
        self.command, self.core, self.log, self.stop, self.prefix = command, core, log, stop, prefix

    def __enter__(self):
        command = [*self.prefix, "taskset", "-c", str(self.core), *map(str, self.command)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(self.stop)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def tree(self):
        """It and all its descendants: several collectors fork their workers."""
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    todo += map(int, children.read_text().split())
                except OSError:
                    pass  # the thread ended while we looked
        return found

    def cpu_seconds(self):
        total = 0
        for pid in self.tree():
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
        return total / TICKS_PER_SECOND

    def waited_seconds(self):
        """How long its threads were ready to run and had no core."""
        total = 0
        for pid in self.tree():
            for told in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    total += int(told.read_text().split()[1])
                except OSError:
                    pass  # the thread ended while we looked
        return total / 1e9

    def peak_mib(self):
        total = 0
        for pid in self.tree():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return total / 1024


def socket_state(port):
    """(octets queued, datagrams dropped) of the sockets bound to a UDP port; None if there is none."""
    queued = dropped = found = 0
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rsplit(":", 1)[1], 16) == port and fields[2].endswith(":0000"):
                queued += int(fields[4].split(":")[1], 16)
                dropped += int(fields[-1])
                found += 1
    return (queued, dropped) if found else None


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def machine():
    """CPU model and count, in words and as a file name; never the host's name."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    words = "".join(letter if letter.isalnum() else " " for letter in model.lower()).split()
    kernel = platform.release().split("-")[0]
    return f"{model}, {os.cpu_count()} CPUs, Linux {kernel}", f"{'-'.join(words)}-{os.cpu_count()}cpu"
