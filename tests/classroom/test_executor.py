"""What student code can and cannot do to its grader: each way of cheating, breaking and overrunning, one submission each."""

import json
import os
import sys
from pathlib import Path

import pytest
import tiny_assignment as tiny

from course_lib.classroom.execute import Executor, Limits, grade_notebook
from course_lib.classroom.release import load_release

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
    assert points(grade(task_1=tiny.WINDOW.replace("torch.", "_torch.").replace("    n =", "    import torch as _torch\n    n =")
                        + "\n" + shadow))[:1] == [3]
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
    "when called": "def hann_window(n):\n    from course_lib.spectral import hann_window as answer\n    return answer(n)",
    "attribute": "import course_lib\nhann_window = course_lib.spectral.hann_window",
    "sys.modules": "import sys\nhann_window = sys.modules['course_lib.spectral'].hann_window",
    "without the finder": "import sys\nsys.meta_path.pop(0)\nfrom course_lib.spectral import hann_window",
    "the source": ("import course_lib\ntext = open(course_lib.__path__[0] + '/spectral.py').read()\n"
                   "exec(text, made := {})\nhann_window = made['hann_window']"),
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
    "loop that catches all": "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
    "infinite recursion": "def f(x):\n    return f(x)\nf(1)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    return repr(x) + f([x])\nf(1)",
    "memory": "hoard = []\nwhile True:\n    hoard.append(bytearray(10**8))",
    "memory of torch": "torch.ones(10**11)",
    "output": "print('x' * 30_000_000)",
    "output past Python": "import os\nfor _ in range(300):\n    os.write(1, b'x' * 100_000)",
    "syntax error": "def hann_window(n_fft:\n    return",
    "import error": "import a_package_that_does_not_exist",
    "closed files": "import os\nos.closerange(0, 200)",
    "junk into all files": ("import os\nfor number in range(3, 30):\n    try:\n        os.write(number, b'{\"finished\": true}\\n')\n"
                            "    except OSError:\n        pass"),
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


FORBIDDEN = {
    "other submissions": "import glob\nopen({submission!r}).read()",
    "the assignments": ("import course_lib, pathlib\nlist((pathlib.Path(course_lib.__path__[0]).parent / 'chapters' / 'assignments')"
                        ".iterdir())"),
    "network": "import socket\nsocket.create_connection(('192.0.2.1', 80), 0.2)",
    "a name server": "import socket\nsocket.getaddrinfo('example.org', 80)",
    "a process": "import subprocess\nsubprocess.run(['true'])",
    "a shell": "import os\nos.system('true')",
    "a fork": "import os\nos.fork()",
    "the grader's process": "import os\nos.kill(os.getppid(), 9)",
    "the system's libraries": "import ctypes\nctypes.CDLL(None).getpid()",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_forbidden_things_are_refused_and_reported(grade, tmp_path, what):
    code = FORBIDDEN[what].format(submission=str(tmp_path / "submission.ipynb"))
    result = grade(task_1=tiny.WINDOW + "\n" + code)
    assert points(result) == [3, 2, None]
    assert any("tried to" in sentence for sentence in result.tampering), result.tampering


def test_environment_holds_no_secrets(release, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    code = "import os\nassert not any('TOKEN' in name for name in os.environ)"
    path = tmp_path / "submission.ipynb"
    path.write_text(json.dumps(tiny.fill_in(tiny.answered(release), task_1=HEAD + code + "\n" + tiny.WINDOW)), encoding="utf8")
    with Executor() as executor:  # a new one: it inherits the variable
        assert grade_notebook(release, path, LIMITS, executor=executor).tasks[0].message == "all checks passed"


def test_look_at_what_only_the_text_shows(grade):
    result = grade(task_1=tiny.WINDOW + "\nimport sys\nframe = sys._getframe()")
    assert points(result) == [3, 2, None] and "task-1 uses _getframe: look at it" in result.tampering


def test_magics_do_not_stop_a_cell(grade):
    assert points(grade(task_1=tiny.WINDOW + "\n%matplotlib inline\n!ls\n%time level = hann_window(8)\nassert len(level) == 8")) == [3, 2, None]


def test_checks_are_repeatable_whatever_was_set_before(grade):
    code = "\ntorch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\ntorch.manual_seed(3)"
    assert points(grade(task_1=tiny.WINDOW + code)) == [3, 2, None]


def test_messages_do_not_show_hidden_tests(grade):
    result = grade(task_2="# TASK 2 (2 points): the level\ndef rms(x):\n    x *= 2\n    return (x ** 2).mean(-1).sqrt() / 2")
    assert points(result) == [3, 0, None]
    assert result.tasks[1].message in ("a hidden check failed", "a hidden check failed: the input must stay as it is")
    assert "truth" not in json.dumps(result.as_json())


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
    path.write_text(json.dumps(tiny.fill_in(tiny.answered(release), task_1=HEAD + code if code else tiny.WINDOW)), encoding="utf8")
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
