"""The processes that submissions run in: `python -m course_lib.classroom.process serve` or `once`.

`serve` loads what grading needs, stays single-threaded, and forks a child for each job: a submission starts in a few
milliseconds and no submission sees another. `once` runs one job in this very process, freshly started, for systems
where forking is not to be had (Windows) or not safe (a library started threads).
Jobs come as lines of JSON on standard input, messages go to standard output (see `Channel`).
"""

import importlib
import json
import os
import select
import signal
import sys
import threading

from course_lib.classroom import confinement

READY = "ready"
BETWEEN_LOOKS = 0.01  # seconds between two looks at a child, where the system can't tell of its end


def load(modules: list[str]) -> None:
    """Import what jobs need, as far as it is there."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:  # the release's own cell will say what is wrong with it
            continue


def thread_count() -> int:
    """Threads of this process, those of libraries included where the system tells (Linux)."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def prepare() -> None:
    """Load what every submission needs: torch with one thread, plots without a screen, the run itself."""
    os.environ.update(MPLBACKEND="Agg", COURSE_EXECUTING="1")
    import torch

    torch.set_num_threads(1)
    load(["scipy.signal", "matplotlib.pyplot", "course_lib.notebook", "course_lib.classroom.student_run",
          "course_lib.classroom.originals", "IPython.core.inputtransformer2",
          "torch._dynamo"])  # the first optimizer imports it, and it replaces torch.manual_seed: not a student's doing


def private_descriptor(standard: int) -> int:
    """A copy of a standard stream's descriptor; the stream itself then leads nowhere."""
    copy, nowhere = os.dup(standard), os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, standard)
    os.close(nowhere)
    return copy


def serve(jobs, descriptor: int) -> None:
    """Fork a child for each line of `jobs`, until they end."""
    def say(token: str, **message) -> None:
        os.write(descriptor, f"\n{token}{json.dumps(message)}\n".encode())

    adopts = confinement.adopt_orphans()
    say(READY, pid=os.getpid())
    for line in jobs:
        job = json.loads(line)
        load(job["preload"])
        if thread_count() > 1:
            say(job["token"], unforkable=thread_count())
            continue
        child = os.fork()
        if not child:
            _in_child(job, descriptor, jobs)
        say(job["token"], pid=child)
        status = _wait(child, jobs.fileno())
        _end_group(child)  # whatever it left behind
        if adopts and confinement.end_children():  # and what left the group
            say(job["token"], tampering="left a process running (it was ended)")
        if status is None:
            return  # the grader is gone
        say(job["token"], ended=os.waitstatus_to_exitcode(status))


def _wait(child: int, jobs: int) -> int | None:
    """How the child ended; None where the grader, who holds the other end of `jobs`, ended before it."""
    watched = [jobs]
    if hasattr(os, "pidfd_open"):
        try:
            watched.append(os.pidfd_open(child))
        except OSError:  # not in every container
            pass
    try:
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
            ready = select.select(watched, [], [], None if len(watched) == 2 else BETWEEN_LOOKS)[0]
            if jobs in ready:  # nothing is sent while a job runs: the end of the stream
                _end_group(child)
                return None
    finally:
        for pidfd in watched[1:]:
            os.close(pidfd)


def _end_group(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _in_child(job: dict, descriptor: int, jobs) -> None:
    """Run the job in this forked child and end it without running anything of the parent's."""
    status = 1
    try:
        os.setsid()
        os.close(jobs.fileno())
        from course_lib.classroom.student_run import run_job

        run_job(job, descriptor)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Serve, or run one job."""
    sys.path[:] = [path for path in sys.path if path]
    jobs, descriptor = os.fdopen(private_descriptor(0), encoding="utf8"), private_descriptor(1)
    prepare()
    if sys.argv[1:] == ["serve"]:
        serve(jobs, descriptor)
    else:
        confinement.end_with_parent()
        from course_lib.classroom.student_run import run_job

        job = json.loads(jobs.readline())
        load(job["preload"])
        run_job(job, descriptor)
        os._exit(0)  # threads that student code left do not keep it alive


if __name__ == "__main__":
    main()
