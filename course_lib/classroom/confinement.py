"""The limits that student code runs under: files, network, processes, memory, time and output.

Two layers. On every system an audit hook, which Python calls before it opens a file, a socket or a process and which
nothing can remove, refuses what is not allowed and notes it. Where the system offers more it is used as well: resource
limits (Linux, macOS), a network name space of its own (Linux, where user name spaces are allowed), Landlock
(Linux 5.13 and later), which lets the kernel itself refuse writing outside the scratch directory, and seccomp, which
lets it refuse new processes and programs, whoever asks for them.
chapters/assignments/README.md says what that stops and what it does not.
"""

import contextlib
import ctypes
import errno
import os
import platform
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

LARGEST_FILE = 64 * 2**20  # bytes that a submission may write to one file
OPEN_FILES = 256
PROCESS_EVENTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
                  "os.startfile", "pty.spawn"}
NETWORK_EVENTS = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
                  "socket.gethostbyname", "socket.gethostbyaddr", "socket.__new__"}
# The arguments of each event that are paths it changes.
CHANGING_EVENTS = {"os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.mkdir": 1, "os.link": 2, "os.symlink": 2,
                   "os.truncate": 1, "os.chmod": 1, "os.chown": 1, "os.utime": 1, "shutil.rmtree": 1}
LISTING_EVENTS = {"os.listdir", "os.scandir"}
KILL_EVENTS = {"os.kill", "os.killpg"}
LIBRARY_EVENTS = {"ctypes.dlopen", "ctypes.dlsym"}
STUDENT_FILE = "cell "  # how the file names of student code begin, in frames and tracebacks
WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
HARMLESS_FILES = {os.devnull}

# Landlock: syscall numbers are those of every 64-bit Linux; access rights of its first version, but for reading.
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
LANDLOCK_WRITING = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38
SECCOMP_MODE_FILTER, SECCOMP_ALLOW, SECCOMP_ERRNO = 2, 0x7FFF0000, 0x00050000
CLONE_THREAD = 0x10000
# By machine: the kernel's number for it, then the numbers of its calls. Every other number of a call is allowed.
SECCOMP_MACHINES = {
    "x86_64": (0xC000003E, {"refused": (57, 58, 59, 322), "clone": 56, "clone3": 435}),  # fork, vfork, execve, execveat
    "aarch64": (0xC00000B7, {"refused": (221, 281), "clone": 220, "clone3": 435}),
}
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def limit_resources(memory_bytes: int, processor_seconds: int) -> list[str]:
    """Set the system's limits for this process; returns what is enforced. Memory counts on top of what is in use."""
    if resource is None:
        return []
    wanted = {"RLIMIT_FSIZE": LARGEST_FILE, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": OPEN_FILES,
              "RLIMIT_CPU": processor_seconds}
    if used := _address_space():
        wanted["RLIMIT_AS"] = used + memory_bytes
    enforced = []
    for name, value in wanted.items():
        _soft, hard = resource.getrlimit(kind := getattr(resource, name))
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))
            enforced.append(name)
    return enforced


def _address_space() -> int | None:
    """Bytes of address space this process uses, where the system limits it (Linux)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def leave_network() -> bool:
    """Move this process into a network name space without any interface (Linux); False where that is not allowed."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0


def landlock(writable: Path) -> bool:
    """Let the kernel refuse all writing to files outside `writable` (Linux 5.13+); False where there is no Landlock."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64", "riscv64"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    rights = ctypes.c_uint64(LANDLOCK_WRITING)
    ruleset = libc.syscall(LANDLOCK_CREATE, ctypes.byref(rights), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    try:
        for path in (writable, Path(os.devnull)):
            file_rights = LANDLOCK_WRITING if path.is_dir() else 1 << 1
            opened = os.open(path, os.O_PATH)
            rule = ctypes.create_string_buffer(file_rights.to_bytes(8, "little") + opened.to_bytes(4, "little"), 12)
            added = libc.syscall(LANDLOCK_ADD, ruleset, 1, rule, 0)
            os.close(opened)
            if added:
                return False
        return libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and libc.syscall(LANDLOCK_RESTRICT, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def refuse_processes() -> bool:
    """Let the kernel refuse every new process and program, but not threads (Linux); False where it has no seccomp.

    The calls' own arguments are looked at, so nothing in this process gets around it: not `_posixsubprocess`, no
    library.
    """
    if sys.platform != "linux" or platform.machine() not in SECCOMP_MACHINES or sys.maxsize < 2**32:
        return False
    machine, calls = SECCOMP_MACHINES[platform.machine()]
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06       # instructions of classic BPF
    refused, unknown = SECCOMP_ERRNO | errno.EPERM, SECCOMP_ERRNO | errno.ENOSYS
    # (instruction, value, how many to skip if so, and if not): from the struct of number, machine, place, arguments
    program = [(load, 4, 0, 0), (equal, machine, 1, 0), (answer, refused, 0, 0), (load, 0, 0, 0),
               (at_least, 0x40000000, 0, 1), (answer, refused, 0, 0)]           # x86's calls with 32-bit addresses
    for number in calls["refused"]:
        program += [(equal, number, 0, 1), (answer, refused, 0, 0)]
    # its flags can't be seen: libc then takes clone
    program += [(equal, calls["clone3"], 0, 1), (answer, unknown, 0, 0),
                (equal, calls["clone"], 0, 3), (load, 16, 0, 0), (any_bit, CLONE_THREAD, 1, 0), (answer, refused, 0, 0),
                (answer, SECCOMP_ALLOW, 0, 0)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", instruction, skip, otherwise, value)
                                                for instruction, value, skip, otherwise in program))
    described = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    return (libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            and libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(described), 0, 0) == 0)


def end_with_parent() -> None:
    """Let the kernel end this process as soon as the thread that started it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> bool:
    """Make this process the parent of whatever its children leave behind (Linux); False where that can't be."""
    return sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def end_children() -> bool:
    """End all children of this process, and theirs, which it adopts; whether there were any (Linux)."""
    ended = False
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return ended
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                if int(status.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                    os.kill(int(status.parent.name), signal.SIGKILL)
                    ended = True
        time.sleep(0.002)


def watch_process_starter(report: Callable[[str], None]) -> None:
    """Refuse and name the one way to a process that raises no audit event: the C function below `subprocess`."""
    def fork_exec(*_arguments):
        report("tried to start a process (_posixsubprocess.fork_exec)")
        raise PermissionError("not allowed while grading: the submission tried to start a process")

    with contextlib.suppress(ImportError):
        import _posixsubprocess
        import subprocess

        _posixsubprocess.fork_exec = fork_exec
        if hasattr(subprocess, "_fork_exec"):
            subprocess._fork_exec = fork_exec


def watch(scratch: Path, forbidden: list[Path], report: Callable[[str], None]) -> Callable[[bool], None]:
    """Install the audit hook and return a switch: switch(True) begins to enforce, switch(False) pauses.

    scratch: the one folder that may be written to. forbidden: files and folders that may not even be read.
    report: called with a sentence for each refusal. A hook, once there, stays for the life of the process.
    """
    state = {"on": False, "busy": False}
    scratch_text = os.path.realpath(scratch)
    forbidden_texts = tuple(os.path.realpath(path) for path in forbidden)
    realpath, fspath, own_pid, frame_at = os.path.realpath, os.fspath, os.getpid(), sys._getframe
    own_sockets = getattr(socket, "AF_UNIX", None)
    separator, opening, text_types = os.sep, "open", (str, bytes, os.PathLike)

    def within(path: str, folder: str) -> bool:
        return path == folder or path.startswith(folder + separator)

    def resolve(path) -> str | None:
        if not isinstance(path, text_types):
            return None  # a file descriptor: it was opened under this hook, or is none of ours
        path = fspath(path)
        return realpath(path.decode(errors="replace") if isinstance(path, bytes) else path)

    def refusal(event: str, arguments: tuple) -> str | None:
        if event == opening:
            path, mode, flags = resolve(arguments[0]), arguments[1], arguments[2] or 0
            if path is None or path in HARMLESS_FILES:
                return None
            if any(within(path, folder) for folder in forbidden_texts):
                return f"tried to read {_short(path)}, which belongs to the grading"
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & WRITING_FLAGS)
            return (
                f"tried to write {_short(path)}, outside its directory"
                if writes and not within(path, scratch_text)
                else None
            )
        if event in LISTING_EVENTS:
            path = resolve(arguments[0] if arguments and arguments[0] is not None else ".")
            if path and any(within(path, folder) for folder in forbidden_texts):
                return f"tried to list {_short(path)}, which belongs to the grading"
        elif event in CHANGING_EVENTS:
            for path in filter(None, map(resolve, arguments[:CHANGING_EVENTS[event]])):
                if not within(path, scratch_text):
                    return f"tried to change {_short(path)} ({event}), outside its directory"
        elif event in PROCESS_EVENTS:
            return f"tried to start a process ({event})"
        elif event in NETWORK_EVENTS:
            if event == "socket.__new__" and arguments[1] == own_sockets:
                return None  # a pair of ends in this process, which every event loop of asyncio makes
            return f"tried to use the network ({event})"
        elif event in KILL_EVENTS and arguments and arguments[0] != own_pid:
            return "tried to end another process"
        elif event in LIBRARY_EVENTS and called_by_student():
            return f"tried to call the system's libraries directly ({event})"
        return None

    def called_by_student() -> bool:
        """Whether a cell, and not a package that it imports, is the nearest caller outside ctypes."""
        frame = frame_at(3)
        while frame and "ctypes" in frame.f_code.co_filename:
            frame = frame.f_back
        return frame is not None and frame.f_code.co_filename.startswith(STUDENT_FILE)

    def about_a_library_s_cache(event: str, arguments: tuple) -> bool:
        """Whether a package, not a cell, asks for its compiled code, as numba does: refused, but nobody's attempt."""
        if event != opening and event not in CHANGING_EVENTS:
            return False
        path = resolve(arguments[0])
        return path is not None and "__pycache__" in path.split(separator)[-2:] and not called_by_student()

    def hook(event: str, arguments: tuple) -> None:
        if not state["on"] or state["busy"] or event not in watched:
            return
        state["busy"] = True
        try:
            reason = refusal(event, arguments)
            if reason and not about_a_library_s_cache(event, arguments):
                report(reason)
        finally:
            state["busy"] = False
        if reason:
            raise PermissionError(f"not allowed while grading: the submission {reason}")

    watched = (PROCESS_EVENTS | NETWORK_EVENTS | CHANGING_EVENTS.keys() | LISTING_EVENTS | KILL_EVENTS
               | LIBRARY_EVENTS | {opening})
    sys.addaudithook(hook)

    def switch(on: bool) -> None:
        state["on"] = on

    return switch


def _short(path: str) -> str:
    """A path as a report names it: the last two parts."""
    return "/".join(Path(path).parts[-2:]).lstrip("/")


def scratch_folder() -> Path:
    """A new empty folder for one submission."""
    return Path(os.path.realpath(tempfile.mkdtemp(prefix="grading-")))

def remove_scratch(path: str) -> None:
    """Delete a scratch directory, whatever rights were taken from what is in it."""
    def retry(function, name, _error):
        try:
            os.chmod(os.path.dirname(name), 0o700)
            os.chmod(name, 0o700)
            function(name)
        except OSError:
            pass

    shutil.rmtree(path, onerror=retry)
