"""The small process between Crunch and a workflow: it starts the command, keeps its log, and ends all it left behind.

    LIFE REPORT LOG CLIENT GRACE -- COMMAND...

LIFE is the reading end of a pipe that only the client holds open: its end of file means that the client wants the
command ended, or is dead. REPORT is a pipe for lines to the client, each a dictionary as Python writes it, LOG the
open log file, CLIENT the client's process id, GRACE the seconds between SIGTERM and SIGKILL. The command's output goes
to the log, whole up to `LOG_HEAD` bytes, after that its last `LOG_TAIL` bytes.

It runs in isolated mode (`LAUNCH`), and imports only what starts fast. Being a child subreaper it inherits every
orphan among its descendants, so it finds also those that left their session and process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time

LAUNCH = (
    "import os, sys; sys.path.append(os.path.dirname(sys.argv[1])); import supervisor; supervisor.main(sys.argv[2:])"
)
"""What Python runs, with this file's path as its first argument: a module is compiled once, a script each time."""

LOG_HEAD = 63 * 1024 * 1024
LOG_TAIL = 1024 * 1024
TAIL_EVERY_S = 1.0
KILL_PATIENCE_S = 20.0
"""How long killed processes may take to vanish (one that hangs in the kernel may never) before they are reported."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    """Does nothing where the system has no prctl."""
    function = getattr(ctypes.CDLL(None), "prctl", None)
    if function is not None:
        function(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """The ids of all living processes below `root`, zombies left out; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - pathlib is slow to import
    except OSError:
        return []
    for name in names:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                # The command's name, in parentheses, may hold anything, a parenthesis included.
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    level = [root]
    while level:
        level = [child for parent in level for child in children.get(parent, [])]
        found += level
    return found


class Log:
    """The command's output in a file that never grows beyond `LOG_HEAD` + `LOG_TAIL` and a line between them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.error = ""
        self.head_left = LOG_HEAD
        self.head_end = os.fstat(fd).st_size
        self.tail = bytearray()
        self.left_out = 0
        self.tail_written_at = 0.0

    def write(self, data: bytes) -> None:
        if self.head_left:
            head, data = data[: self.head_left], data[self.head_left :]
            self.head_left -= len(head)
            self.head_end += len(head)
            self._append(head)
        if data:
            self.tail += data
            too_many = len(self.tail) - LOG_TAIL
            if too_many > 0:
                del self.tail[:too_many]
                self.left_out += too_many
            if time.monotonic() - self.tail_written_at > TAIL_EVERY_S:
                self.write_tail()

    def write_tail(self) -> None:
        """Bring the file up to date with the tail kept in memory."""
        if not self.tail:
            return
        try:
            os.ftruncate(self.fd, self.head_end)
        except OSError as error:
            self.error = str(error)
        middle = b"\n[... %d bytes of output left out ...]\n" % self.left_out if self.left_out else b""
        self._append(middle + bytes(self.tail))
        self.tail_written_at = time.monotonic()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.fd, view) :]
        except OSError as error:
            # A full disk must not end the watch over the command; whoever reads the log is told.
            self.error = str(error)


class Supervisor:
    def __init__(self, life: int, report: int, log: int, client: int, grace_s: float) -> None:
        self.life = life
        self.report_fd = report
        self.log = Log(log)
        self.client = client
        self.grace_s = grace_s
        self.pid = 0
        self.status: int | None = None
        self.childless = False
        self.life_ended = False
        self.output, self.command_output = os.pipe()
        self.wake, wake_write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_write, False)
        for fd in (life, report, log):
            os.set_inheritable(fd, False)
        # The handlers do nothing but wake `select`: the end of LIFE alone decides. Handlers, not SIG_IGN, because
        # what is ignored would stay ignored in the command.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)

    def run(self, command: list[str]) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.pid = os.fork()
        if self.pid == 0:
            self._become(command)
        os.close(self.command_output)
        self.report(started=self.pid)
        while self.status is None and not self.client_gone():
            self.step(1.0)
        survivors = self.end_all()
        while self.output >= 0 and self.copy_output(0.0):
            pass
        self.log.write_tail()
        status = self.status
        self.report(
            returncode=os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
            survivors=survivors,
            log_error=self.log.error,
        )

    def _become(self, command: list[str]) -> None:
        """In the child: turn into the command, in a session of its own."""
        try:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.dup2(self.command_output, 1)
            os.dup2(self.command_output, 2)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.execvpe(command[0], command, os.environ)  # noqa: S606
        except OSError as error:
            self.report(error=error.strerror or str(error))
        finally:
            os._exit(127)

    def report(self, **values: object) -> None:
        # The client may be gone; what is left to do here is done all the same.
        with contextlib.suppress(OSError):
            os.write(self.report_fd, repr(values).encode() + b"\n")

    def client_gone(self) -> bool:
        """Whether LIFE was closed. A client's fork may hold it open after the client died, so the parent counts too."""
        return self.life_ended or os.getppid() != self.client

    def step(self, timeout_s: float) -> None:
        """Wait for output, an ended child or the client, `timeout_s` seconds at most, and take what came."""
        sources = [self.wake]
        if self.output >= 0:
            sources.append(self.output)
        if not self.life_ended:
            sources.append(self.life)
        readable, _, _ = select.select(sources, [], [], timeout_s)
        if self.life in readable:
            self.life_ended = True
        if self.wake in readable:
            os.read(self.wake, 4096)
        if self.output in readable:
            self.copy_output(None)
        self.reap()

    def copy_output(self, timeout_s: float | None) -> bool:
        """Copy a piece of output to the log; False when none came in `timeout_s` (None: some is there)."""
        if timeout_s is not None and not select.select([self.output], [], [], timeout_s)[0]:
            return False
        data = os.read(self.output, 1 << 16)
        if data:
            self.log.write(data)
        else:
            os.close(self.output)
            self.output = -1
        return bool(data)

    def reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.pid:
                    self.status = status
        except ChildProcessError:
            self.childless = True

    def end_all(self) -> int:
        """End every descendant: SIGTERM, grace, SIGKILL until none is left. Returns how many would not die."""
        self.reap()
        self.signal_all(signal.SIGTERM)
        self.wait_childless(self.grace_s)
        deadline = time.monotonic() + KILL_PATIENCE_S
        while not self.childless and time.monotonic() < deadline:
            # Again and again: a process may fork between the look at the table and the signal.
            self.signal_all(signal.SIGKILL)
            self.wait_childless(0.1)
        return 0 if self.childless else len(descendants(os.getpid()))

    def signal_all(self, number: int) -> None:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, number)
            except OSError:
                continue
        if self.status is None:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, number)

    def wait_childless(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        self.reap()
        while not self.childless and (left := deadline - time.monotonic()) > 0:
            self.step(left)


def main(arguments: list[str]) -> None:
    life, report, log, client = (int(value) for value in arguments[:4])
    Supervisor(life, report, log, client, float(arguments[4])).run(arguments[6:])
