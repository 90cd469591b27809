"""A training that is killed at any moment goes on to the same weights and logs."""

import os
import random
import signal
import time
import warnings

import pytest
import torch

from tests.training.training_runs import SETTINGS, STEPS, logs, same_weights, start, told, train, without_seconds

KILLS = 6
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes with SIGKILL, which needs POSIX")


@pytest.fixture(scope="module")
def whole(songs, tmp_path_factory):
    """The folder of a run that nothing interrupted, and how long it took."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(songs, folder)
    process.join()
    assert process.exitcode == 0 and "error" not in told(folder), told(folder)
    return folder


def check_equal(folder, whole):
    """Weights to the last bit, logs to the last digit, the history, the best weights."""
    got, expected = told(folder), told(whole)
    assert "error" not in got, got["error"]
    assert same_weights(got["weights"], expected["weights"])
    assert logs(folder) == logs(whole) and len(logs(folder)["log"]) == STEPS
    assert without_seconds(got["history"].steps) == without_seconds(expected["history"].steps)
    assert got["history"].validations == expected["history"].validations
    assert got["history"].best == expected["history"].best
    assert (folder / "best.safetensors").read_bytes() == (whole / "best.safetensors").read_bytes()


def run_to_end(songs, folder):
    process = start(songs, folder)
    process.join()
    assert process.exitcode == 0


def test_killed_at_random_moments(songs, whole, tmp_path):
    seconds = told(whole)["history"].steps[-1]["seconds"]
    draw = random.Random()                                  # other moments each time; whichever they are, it must hold
    steps_seen = []
    for _ in range(KILLS):
        before = (tmp_path / "log.csv").stat().st_mtime_ns if (tmp_path / "log.csv").exists() else 0
        process = start(songs, tmp_path)
        while process.is_alive() and not ((tmp_path / "log.csv").exists()
                                          and (tmp_path / "log.csv").stat().st_mtime_ns != before):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, seconds / 4))
        process.kill()
        process.join()
        log = tmp_path / "log.csv"
        steps_seen.append(len(log.read_bytes().splitlines()) if log.exists() else 0)
    run_to_end(songs, tmp_path)
    assert any(0 < seen <= STEPS for seen in steps_seen), f"no kill fell into the training: {steps_seen}"
    check_equal(tmp_path, whole)


def test_killed_before_every_change_to_a_file(songs, tmp_path):
    """Run n dies before its n-th change to the folder; the next goes on from what that left. Every step is saved.

    Starting takes some 10 changes, a step with validation and checkpoint some 16: 30 pass every kind of moment, with no
    checkpoint there, with one, and while the oldest of three is deleted.
    """
    changed = {"steps": 8, "checkpoint_every": 1, "validate_every": 2, "schedule": None}
    expected, model = train(songs, None, **changed)
    killed = 0
    for number in range(1, 31):
        process = start(songs, tmp_path, kill_at=number, changed=changed)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        killed += process.exitcode == -signal.SIGKILL
    start(songs, tmp_path, changed=changed).join()
    got = told(tmp_path)
    assert killed >= 20 and "error" not in got, (killed, got.get("error"))
    assert same_weights(got["weights"], model.state_dict())
    assert without_seconds(got["history"].steps) == without_seconds(expected.steps)
    assert got["history"].validations == expected.validations and got["history"].best == expected.best


def test_ctrl_c_leaves_a_folder_that_goes_on(songs, whole, tmp_path):
    process = start(songs, tmp_path)
    while process.is_alive() and not any((tmp_path / "checkpoints").glob("step_*")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 1 and not (tmp_path / "result.pkl").exists(), "KeyboardInterrupt must leave `fit`"
    run_to_end(songs, tmp_path)
    check_equal(tmp_path, whole)


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "without checksums"])
def test_damaged_newest_checkpoint(songs, whole, tmp_path, damage):
    train(songs, tmp_path, steps=20, schedule=_first_part_of_whole)
    newest = tmp_path / "checkpoints" / "step_00000020"
    state = newest / "state.pt"
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-100])
    elif damage == "changed":
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    elif damage == "missing":
        (newest / "random_0.pt").unlink()
    else:
        (newest / "sha256.json").unlink()
    with pytest.warns(UserWarning, match="step_00000020 of .* is damaged .* goes on from the one before"):
        history, model = train(songs, tmp_path)
    # the run of 20 steps validated at its end, too, and so drew once more than the whole run: it goes on from before
    assert same_weights(model.state_dict(), told(whole)["weights"])
    assert without_seconds(history.steps) == without_seconds(told(whole)["history"].steps)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["damaged_step_00000020", "step_00000035", "step_00000040"]


def _first_part_of_whole(step):
    from course_lib.training.schedules import cosine
    return cosine(STEPS, 3, 0.1)(step)


def test_all_checkpoints_damaged(songs, tmp_path):
    train(songs, tmp_path, steps=10)
    for state in tmp_path.glob("checkpoints/step_*/state.pt"):
        state.write_bytes(b"")
    for _ in range(2):                                      # refused again, and never trained afresh unasked
        with warnings.catch_warnings(), pytest.raises(ValueError, match="no checkpoint in .* is whole; delete"):
            warnings.simplefilter("ignore")
            train(songs, tmp_path, steps=10)


def test_half_written_log_row(songs, whole, tmp_path):
    train(songs, tmp_path, steps=20, schedule=_first_part_of_whole)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("21,0.5")
    log = (tmp_path / "log.csv").read_bytes()
    train(songs, tmp_path, steps=21)
    rows = (tmp_path / "log.csv").read_bytes()
    assert rows.startswith(log.removesuffix(b"21,0.5")) and len(rows.splitlines()) == 22


def test_a_finished_run_is_only_loaded(songs, tmp_path):
    first, model = train(songs, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    again, loaded = train(songs, tmp_path, seed=1)          # other weights at first
    assert again == first and same_weights(loaded.state_dict(), model.state_dict())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")} == before
    assert loaded.training


def test_steps_may_grow(songs, whole, tmp_path):
    """A run of 24 steps (a validation falls on its end) made longer is the longer run, if its schedule is the same."""
    train(songs, tmp_path, steps=24, schedule=_first_part_of_whole)
    history, model = train(songs, tmp_path)
    assert same_weights(model.state_dict(), told(whole)["weights"])
    assert history.validations == told(whole)["history"].validations


@pytest.mark.parametrize("changed, message", [
    ({"clip": 2.0}, "clip was 1.0, now 2.0"),
    ({"ema_decay": None}, "ema_decay was 0.9, now null"),
    ({"steps": 8}, "steps was 10, now 8"),
    ({"precision": "bf16"}, 'precision was "no", now "bf16"'),
    ({"accumulate": 2}, "accumulate was 1, now 2"),
    ({"schedule": lambda step: 0.5}, "schedule_values was"),
    ({"validate_every": 3, "monitor": "score"}, 'validate_every was 6, now 3; monitor was null, now "score"'),
])
def test_other_settings_are_refused(songs, tmp_path_factory, changed, message):
    folder = tmp_path_factory.getbasetemp() / "refused"
    if not folder.exists():
        train(songs, folder, steps=10, checkpoint_every=0)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "run.lock"}
    with pytest.raises(ValueError, match="holds a run with other settings") as caught:
        train(songs, folder, **{"steps": 10, **changed})
    assert message in str(caught.value) and "another folder" in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "run.lock"} == before
    assert SETTINGS["clip"] == 1.0


def test_another_model_is_refused(songs, tmp_path):
    train(songs, tmp_path, steps=5)
    model = torch.nn.Linear(2, 2)
    from course_lib.training import fit
    with pytest.raises(ValueError, match="model was .*Masks.*, now .*Linear, 6 numbers in 2 tensors"):
        fit(model, lambda m, x: m(x).mean(), lambda start: iter([torch.ones(1, 2)] * 9),
            torch.optim.Adam(model.parameters()), 5, folder=tmp_path, progress=False)
