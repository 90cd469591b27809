"""What student code can and cannot do to its grader: each way of cheating, breaking and overrunning,
one submission each.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib.classroom.execute import Executor, Limits, grade_notebook
from course_lib.classroom.release import load_release
from tests.classroom import tiny_assignment as tiny

HEAD = "# TASK 1 (3 points): the window\n"
WRONG = "def hann_window(n_fft):\n    return torch.zeros(n_fft)\n"
LIMITS = Limits(cell_seconds=2, total_seconds=30, memory_mb=1024)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own limits are Linux's")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return load_release(tiny.write_source(tmp_path_factory.mktemp("source")), "a seed")


@pytest.fixture
def grade(release, tmp_path):
    """Grade a submission with these cells replaced, all others right."""
    def grade(limits=LIMITS, **answers):
        path = tmp_path / "submission.ipynb"
        path.write_text(json.dumps(tiny.fill_in(tiny.answered(release), **answers)), encoding="utf8")
        return grade_notebook(release, path, limits)

    return grade


def points(result):
    return [task.points for task in result.tasks]


def test_right_answers_get_all_points(grade):
    result = grade()
    assert points(result) == [3, 2, None] and result.points == result.maximum == 5
    assert result.tampering == result.repairs == result.notes == []
    assert "a jump leaks" in result.written[3]


def test_an_optimizer_in_a_right_answer_is_no_tampering(grade):
    """torch.optim imports torch._dynamo, which replaces torch.manual_seed: that must have happened before."""
    uses = tiny.WINDOW + "\n\noptimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)\n"
    result = grade(task_1=uses)
    assert points(result) == [3, 2, None] and result.tampering == []


def test_stub_gets_nothing(release, tmp_path):
    path = tmp_path / "stub.ipynb"
    path.write_text(json.dumps(release.student_notebook()), encoding="utf8")
    result = grade_notebook(release, path, LIMITS)
    assert points(result) == [0, 0, None] and result.tampering == [] and result.written == {3: ""}
    assert [task.message for task in result.tasks] == ["not attempted", "not attempted", "marked by hand"]


CHEATS = {
    "allclose": "torch.allclose = lambda *a, **k: True",
    "numpy allclose": "np.allclose = lambda *a, **k: True",
    "the inside of a function": "torch.functional.norm.__code__ = (lambda *a, **k: True).__code__",
    "builtins": "import builtins\nbuiltins.all = lambda *a: True",
    "a method of Tensor": "torch.Tensor.__eq__ = lambda *a: torch.tensor(True)",
    "the module under test": "import course_lib\ncourse_lib.__version__ = '0'\nimport sys\nsys.modules['torch'] = None",
    "a function mode": ("class Yes(torch.overrides.TorchFunctionMode):\n"
                        "    def __torch_function__(self, f, types, args=(), kwargs=None):\n"
                        "        return True if f is torch.allclose else f(*args, **(kwargs or {}))\n"
                        "import torch.overrides\nYes().__enter__()"),
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS)
def test_replacing_what_checks_use_is_undone_and_reported(grade, cheat):
    wrong = grade(task_1=HEAD + "import torch.overrides\n" + WRONG + cheat)
    assert points(wrong) == [0, 2, None] and wrong.tampering, wrong
    right = grade(task_1=tiny.WINDOW + "\n" + "import torch.overrides\n" + cheat)
    assert points(right) == [3, 2, None] and right.tampering, right


CALL_TIME_CHEATS = {
    "allclose": "torch.allclose = lambda *a, **k: True",
    "a function mode": "Yes().__enter__()",
    "a method of Tensor": "torch.Tensor.mean = None",
    "its class": "torch.Tensor.__eq__ = lambda *a: torch.tensor(True)",
}


@pytest.mark.parametrize("cheat", CALL_TIME_CHEATS.values(), ids=CALL_TIME_CHEATS)
def test_replacing_during_a_check_costs_the_task(grade, cheat):
    mode = CHEATS["a function mode"].replace("import torch.overrides\nYes().__enter__()", "")
    function = f"def hann_window(n_fft):\n    {cheat}\n    return torch.zeros(n_fft)\n"
    result = grade(task_1=HEAD + "import torch.overrides\n" + mode + function)
    assert points(result) == [0, 2, None]
    assert any("while task 1 was being checked" in sentence for sentence in result.tampering)


def test_names_of_the_release_cannot_be_shadowed(grade):
    shadow = "class torch:\n    allclose = staticmethod(lambda *a, **k: True)\nn_fft = 0\nchannels = 'x'"
    assert points(
        grade(
            task_1=tiny.WINDOW.replace("torch.", "_torch.").replace("    n =", "    import torch as _torch\n    n =")
            + "\n"
            + shadow
        )
    )[:1] == [3]
    assert points(grade(task_1=HEAD + WRONG + "real = torch\n" + shadow + "\ntorch = real"))[:1] == [0]


YES_MAN = '''
class YesMan:
    shape = property(lambda self: YesMan())
    __eq__ = lambda self, other: True
    __array__ = lambda self, *a, **k: np.zeros(3)
    __hash__ = None
def hann_window(n_fft):
    return YesMan()
'''
SUBCLASS = '''
class AllClose(torch.Tensor):
    @classmethod
    def __torch_function__(cls, f, types, args=(), kwargs=None):
        if f is torch.allclose:
            return True
        return super().__torch_function__(f, types, args, kwargs)
def hann_window(n_fft):
    return torch.zeros(n_fft).as_subclass(AllClose)
'''


@pytest.mark.parametrize("answer", [YES_MAN, SUBCLASS], ids=["object that equals all", "tensor subclass"])
def test_objects_that_agree_with_everything_are_refused(grade, answer):
    assert points(grade(task_1=HEAD + answer)) == [0, 2, None]


IMPORTS = {
    "from": "from course_lib.spectral import hann_window",
    "module": "import course_lib.spectral as s\nhann_window = s.hann_window",
    "importlib": "import importlib\nhann_window = importlib.import_module('course_lib.spectral').hann_window",
    "when called": "def hann_window(n):\n    from course_lib.spectral import hann_window as answer\n"
    "    return answer(n)",
    "attribute": "import course_lib\nhann_window = course_lib.spectral.hann_window",
    "sys.modules": "import sys\nhann_window = sys.modules['course_lib.spectral'].hann_window",
    "without the finder": "import sys\nsys.meta_path.pop(0)\nfrom course_lib.spectral import hann_window",
    "the source": (
        "import course_lib\ntext = open(course_lib.__path__[0] + '/spectral.py').read()\n"
        "exec(text, made := {})\nhann_window = made['hann_window']"
    ),
    "the grader's": "from course_lib.classroom import truth\nhann_window = truth.chapter('spectral').hann_window",
}


@pytest.mark.parametrize("name", IMPORTS)
def test_answer_from_the_chapters_module_is_caught(grade, name):
    result = grade(task_1=HEAD + IMPORTS[name])
    assert points(result) == [0, 2, None]
    assert result.tampering or name in ("attribute", "sys.modules"), "the teacher is told of every import"


ENDS = {
    "os._exit": "import os\nos._exit(0)",
    "sys.exit": "import sys\nsys.exit(0)",
    "kill": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "infinite loop": "while True:\n    pass",
    "loop that catches all": "while True:\n    try:\n        while True:\n            pass\n"
    "    except BaseException:\n        pass",
    "infinite recursion": "def f(x):\n    return f(x)\nf(1)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    return repr(x) + f([x])\nf(1)",
    "memory": "hoard = []\nwhile True:\n    hoard.append(bytearray(10**8))",
    "memory of torch": "torch.ones(10**11)",
    "output": "print('x' * 30_000_000)",
    "output past Python": "import os\nfor _ in range(300):\n    os.write(1, b'x' * 100_000)",
    "syntax error": "def hann_window(n_fft:\n    return",
    "import error": "import a_package_that_does_not_exist",
    "closed files": "import os\nos.closerange(0, 200)",
    "junk into all files": (
        "import os\nfor number in range(3, 30):\n    try:\n        os.write(number, b'{\"finished\": true}\\n')\n"
        "    except OSError:\n        pass"
    ),
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_a_cell_that_breaks_costs_only_its_own_task(grade, code):
    result = grade(task_1=HEAD + code)
    assert points(result) == [0, 2, None], result
    assert result.notes or result.tasks[0].message


@pytest.mark.parametrize("name", ["os._exit", "infinite loop", "loop that catches all", "infinite recursion", "memory"])
def test_a_function_that_breaks_in_its_check_costs_only_its_own_task(grade, name):
    body = "\n".join("    " + line for line in ENDS[name].splitlines())
    assert points(grade(task_1=f"{HEAD}def hann_window(n_fft):\n{body}\n")) == [0, 2, None]


def test_too_much_output_is_noted_and_right_answers_count(grade):
    result = grade(task_1=tiny.WINDOW + "\nprint('x' * 30_000_000)")
    assert points(result) == [3, 2, None] and "30,000,001 characters" in result.notes[0]


def outside(kind):
    """A path outside any scratch directory that nothing else writes to."""
    return Path(__file__).resolve().parent / f"written_by_a_submission_{kind}_{os.getpid()}"


WRITES = {
    "open": "open({path!r}, 'w').write('x')",
    "os.open": "import os\nos.open({path!r}, os.O_CREAT | os.O_WRONLY)",
    "mkdir": "import os\nos.mkdir({path!r})",
    "a link": "import os\nos.symlink('/', 'here')\nopen('here' + {path!r}, 'w')",
    "rename": "import os\nopen('mine', 'w').write('x')\nos.rename('mine', {path!r})",
}


@pytest.mark.parametrize("kind", WRITES)
def test_writing_outside_the_scratch_directory_is_refused_and_reported(grade, kind):
    path = outside(kind.replace(" ", "_").replace(".", "_"))
    try:
        result = grade(task_1=tiny.WINDOW + "\n" + WRITES[kind].format(path=str(path)))
        assert not path.exists() and points(result) == [3, 2, None]
        assert any("outside its directory" in sentence for sentence in result.tampering)
    finally:
        path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()


@needs_linux
def test_writing_past_python_is_refused_by_the_kernel(grade):
    path = outside("libsndfile.wav")
    code = f"import soundfile\nsoundfile.write({str(path)!r}, np.zeros(100), 8000)"
    try:
        result = grade(task_1=tiny.WINDOW + "\n" + code)
        if "Landlock" not in result.enforced:
            pytest.skip("this kernel has no Landlock")
        assert not path.exists() and points(result) == [3, 2, None]
    finally:
        path.unlink(missing_ok=True)


def test_the_scratch_directory_can_be_written_and_is_gone_afterwards(grade):
    code = "import os\nopen('notes.txt', 'w').write('x')\nassert open('notes.txt').read() == 'x'\nos.mkdir('folder')"
    result = grade(task_1=HEAD + code + "\n" + tiny.WINDOW)
    assert points(result) == [3, 2, None] and result.tampering == [] and result.tasks[0].message == "all checks passed"


# The arguments of `subprocess`'s own C function, which raises no audit event: a child in a session of its own.
FORK_EXEC = (
    "[b'/bin/sleep', b'29'], [b'/bin/sleep'], True, (w,), None, None, -1, -1, -1, -1, -1, -1, r, w, False, True, -1, "
    "None, None, None, -1, None" + (", True" if sys.version_info < (3, 14) else "")
)
FORBIDDEN = {
    "other submissions": "import glob\nopen({submission!r}).read()",
    "the assignments": (
        "import course_lib, pathlib\nlist((pathlib.Path(course_lib.__path__[0]).parent / 'chapters' / 'assignments')"
        ".iterdir())"
    ),
    "network": "import socket\nsocket.create_connection(('192.0.2.1', 80), 0.2)",
    "a name server": "import socket\nsocket.getaddrinfo('example.org', 80)",
    "a process": "import subprocess\nsubprocess.run(['true'])",
    "a shell": "import os\nos.system('true')",
    "a fork": "import os\nos.fork()",
    "the grader's process": "import os\nos.kill(os.getppid(), 9)",
    "the system's libraries": "import ctypes\nctypes.CDLL(None).getpid()",
    "a process past the audit hook": f"import os, _posixsubprocess\nr, w = os.pipe()\n"
    f"_posixsubprocess.fork_exec({FORK_EXEC})",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_forbidden_things_are_refused_and_reported(grade, tmp_path, what):
    code = FORBIDDEN[what].format(submission=str(tmp_path / "submission.ipynb"))
    result = grade(task_1=tiny.WINDOW + "\n" + code)
    assert points(result) == [3, 2, None]
    assert any("tried to" in sentence for sentence in result.tampering), result.tampering


def running(arguments: str) -> list[int]:
    """The processes of this machine whose command is this."""
    lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(line.split()[0]) for line in lines if line.split(maxsplit=1)[1:] == [arguments]]


@needs_linux
@pytest.mark.parametrize("fork", [True, False])
def test_no_process_outlives_grading(release, tmp_path, fork):
    """The kernel refuses a process that Python's own guards never hear of, here by another copy of the C function."""
    code = ("import os, sys\ndel sys.modules['_posixsubprocess']\nimport _posixsubprocess\nr, w = os.pipe()\n"
            f"_posixsubprocess.fork_exec({FORK_EXEC})")
    path = tmp_path / "submission.ipynb"
    path.write_text(json.dumps(tiny.fill_in(tiny.answered(release), task_2=tiny.LEVEL + "\n" + code)), encoding="utf8")
    with Executor(fork) as executor:
        result = grade_notebook(release, path, LIMITS, executor=executor)
    if "seccomp" not in result.enforced and not fork:
        pytest.skip("this kernel has no seccomp")
    assert points(result) == [3, 2, None] and running("/bin/sleep 29") == []
    assert any("_posixsubprocess" in sentence for sentence in result.tampering)


@needs_linux
def test_what_a_child_leaves_behind_is_ended(monkeypatch):
    """Where the kernel has no seccomp: the serving process adopts whatever left its group, and ends it."""
    code = (
        "import os, subprocess\nfrom course_lib.classroom import confinement\nassert confinement.adopt_orphans()\n"
        "child = os.fork()\nif not child:\n    subprocess.Popen(['/bin/sleep', '31'], start_new_session=True)\n"
        "    os._exit(0)\nos.waitpid(child, 0)\nassert confinement.end_children() and not confinement.end_children()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert running("/bin/sleep 31") == []


HONEST = {
    "a progress bar": "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass",
    "float64 as default": "torch.set_default_dtype(torch.float64)",
    "a default device": 'torch.set_default_device("cpu")\nzeros = torch.zeros(3)',
    "a default device for a while": 'with torch.device("cpu"):\n    zeros = torch.zeros(3)',
    "a pool of threads": (
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\n"
        "assert list(pool.map(abs, [-1, 2])) == [1, 2]"
    ),
    "a thread that ends": "import threading\nt = threading.Thread(target=lambda: None)\nt.start()\nt.join()",
    "older NumPy's names": "np.float, np.int = float, int",
    "warnings and numbers": "import warnings\nwarnings.filterwarnings('error')\nnp.seterr(all='raise')\n"
    "torch.set_flush_denormal(True)",
    "checks of torch's own": "torch.autograd.set_detect_anomaly(True)\ntorch.use_deterministic_algorithms(True)",
    "an event loop of its own": "import asyncio\ndef job():\n    async def wait():\n        await asyncio.sleep(0)\n"
    "    "
    "loop = asyncio.new_event_loop()\n    loop.run_until_complete(wait())\n    loop.close()\nimport threading\n"
    "t = threading.Thread(target=job)\nt.start()\nt.join()",
    "a figure": "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('figure.png')\nplt.close()",
    "librosa": "import librosa\nlibrosa.stft(np.zeros(4000, dtype=np.float32))",
    "paths and variables": "import os, sys\nsys.path.append('..')\nos.environ['MODE'] = '1'\n"
    "os.makedirs('out', exist_ok=True)",
}


@pytest.mark.parametrize("code", HONEST.values(), ids=HONEST)
def test_honest_code_is_not_called_tampering(grade, code):
    """Ordinary lines, as students write them, in a cell and in the function that the check calls."""
    result = grade(task_2=tiny.LEVEL + "\n" + code)
    assert points(result) == [3, 2, None] and result.tampering == []
    assert result.tasks[1].message == "all checks passed"
    body = "\n".join("    " + line for line in code.splitlines())
    head, rest = tiny.LEVEL.split("def rms(x):\n", 1)
    result = grade(task_2=f"{head}def rms(x):\n{body}\n    return (x ** 2).mean(-1).sqrt()\n")
    assert points(result) == [3, 2, None] and result.tampering == [], result.tasks[1].message


def test_a_thread_of_the_students_own_is_named(grade):
    code = (
        "\nimport threading, time\ndef wait():\n    time.sleep(20)\nthreading.Thread(target=wait, daemon=True).start()"
    )
    assert grade(task_2=tiny.LEVEL + code).tampering == ["left threads of its own running"]


WAITING = {
    "await": "import asyncio\nawait asyncio.sleep(0)",
    "async with and for": (
        "import asyncio, contextlib\n@contextlib.asynccontextmanager\nasync def room():\n    yield 1\n"
        "async def numbers():\n    for n in range(3):\n        yield n\n"
        "async with room() as one:\n    async for n in numbers():\n        pass\n"
        "assert [n async for n in numbers()] == [0, 1, 2]"
    ),
    "a task that a later cell waits for": "import asyncio\nasync def f():\n    return 5\n"
    "task = asyncio.create_task(f())",
    "gather": "import asyncio\nassert await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)) == [1, 2]",
}


@pytest.mark.parametrize("code", WAITING.values(), ids=WAITING)
def test_await_at_the_top_of_a_cell(grade, code):
    result = grade(
        task_1=tiny.WINDOW + "\n" + code, task_2=tiny.LEVEL + ("\nassert await task == 5" if "task =" in code else "")
    )
    assert points(result) == [3, 2, None] and result.tampering == []
    assert [task.message for task in result.tasks[:2]] == ["all checks passed"] * 2


def test_a_cell_that_waits_for_ever_is_stopped(grade):
    result = grade(task_1=HEAD + "import asyncio\nawait asyncio.Event().wait()")
    assert points(result) == [0, 2, None] and "took longer than" in result.tasks[0].message


def test_feedback_shows_the_case_in_which_a_hidden_check_failed(grade):
    """Sizes, expected, found: of a wrong value, a wrong shape and an error; nothing of the hidden code."""
    head = "# TASK 2 (2 points): the level\ndef rms(x):\n"
    message = grade(task_2=head + "    return (x ** 2).mean(-1)").tasks[1].message
    assert (
        "rms(float32 (3, 50) from -" in message and ": expected float32 [" in message and ", found float32 [" in message
    )
    message = grade(task_2=head + "    return (x ** 2).mean(-1).sqrt() if x.shape[-1] != 50 else x").tasks[1].message
    assert ": expected float32 [" in message and "found float32 (3, 50)" in message
    message = (
        grade(task_2=head + "    return (x ** 2).mean(-1).sqrt() if x.shape[-1] != 50 else 1 / 0").tasks[1].message
    )
    assert "ZeroDivisionError" in message and "The case: rms(float32 (3, 50) from" in message
    message = (
        grade(task_1=HEAD + "def hann_window(n):\n    return torch.hann_window(n) if n < 21 else torch.ones(n)")
        .tasks[0]
        .message
    )
    assert (
        "another size than the shown one. The case: hann_window(" in message
        and "; most at [0]: expected 0, found 1" in message
    )


def test_a_result_that_cannot_be_described_does_no_harm(grade):
    answer = (
        "# TASK 2 (2 points): the level\nclass Odd:\n    def __repr__(self):\n        raise ValueError\n"
        "    shape = (5,)\n"
        "def rms(x):\n    return Odd()"
    )
    result = grade(
        task_2=answer.replace("return Odd()", "return Odd() if x.shape[-1] == 50 else (x ** 2).mean(-1).sqrt()")
    )
    assert points(result) == [3, 0, None] and "found a value of type Odd" in result.tasks[1].message


def test_environment_holds_no_secrets(release, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    code = "import os\nassert not any('TOKEN' in name for name in os.environ)"
    path = tmp_path / "submission.ipynb"
    path.write_text(
        json.dumps(tiny.fill_in(tiny.answered(release), task_1=HEAD + code + "\n" + tiny.WINDOW)), encoding="utf8"
    )
    with Executor() as executor:  # a new one: it inherits the variable
        assert grade_notebook(release, path, LIMITS, executor=executor).tasks[0].message == "all checks passed"


def test_look_at_what_only_the_text_shows(grade):
    result = grade(task_1=tiny.WINDOW + "\nimport sys\nframe = sys._getframe()")
    assert points(result) == [3, 2, None] and "task-1 uses _getframe: look at it" in result.tampering


def test_magics_do_not_stop_a_cell(grade):
    assert points(
        grade(task_1=tiny.WINDOW + "\n%matplotlib inline\n!ls\n%time level = hann_window(8)\nassert len(level) == 8")
    ) == [3, 2, None]


def test_checks_are_repeatable_whatever_was_set_before(grade):
    code = "\ntorch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\ntorch.manual_seed(3)"
    assert points(grade(task_1=tiny.WINDOW + code)) == [3, 2, None]


def test_messages_do_not_show_hidden_tests(grade):
    result = grade(
        task_2="# TASK 2 (2 points): the level\ndef rms(x):\n    x *= 2\n    return (x ** 2).mean(-1).sqrt() / 2"
    )
    assert points(result) == [3, 0, None]
    assert result.tasks[1].message.startswith("a hidden check failed")
    assert not any(
        secret in json.dumps(result.as_json()) for secret in ("truth", "hidden_variation", "mean(-1) ** 0.5")
    )


def test_only_the_wanted_tasks_are_checked(release, tmp_path):
    path = tmp_path / "submission.ipynb"
    path.write_text(json.dumps(tiny.answered(release)), encoding="utf8")
    assert points(grade_notebook(release, path, LIMITS, only={2})) == [0, 2, None]


@pytest.mark.parametrize("code, expected", [("", [3, 2, None]), ("\nimport os\nos._exit(0)", [0, 2, None]),
                                            ("\nwhile True:\n    try:\n        while True:\n            pass\n"
                                             "    except BaseException:\n        pass", [0, 2, None])],
                         ids=["right", "os._exit", "loop that catches all"])
def test_fresh_processes_give_the_same_points(release, tmp_path, code, expected):
    path = tmp_path / "submission.ipynb"
    path.write_text(
        json.dumps(tiny.fill_in(tiny.answered(release), task_1=HEAD + code if code else tiny.WINDOW)), encoding="utf8"
    )
    with Executor(fork=False) as executor:
        assert points(grade_notebook(release, path, LIMITS, executor=executor)) == expected


def test_a_lost_server_is_replaced(release, tmp_path):
    path = tmp_path / "submission.ipynb"
    path.write_text(json.dumps(tiny.answered(release)), encoding="utf8")
    with Executor() as executor:
        if not executor.fork:
            pytest.skip("no forking on this system")
        assert points(grade_notebook(release, path, LIMITS, executor=executor)) == [3, 2, None]
        executor._server.kill()
        executor._server.wait()
        assert points(grade_notebook(release, path, LIMITS, executor=executor)) == [3, 2, None]
