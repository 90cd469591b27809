"""Several processes that train one model: who does what alone, sums over all, and how they part.

`over_processes` and `gathered` are for modules that change their own state in a training step: made from the sums over
all processes, the state is the same in all of them, and the one that a single process gets from the whole batch.
"""

import gc
from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor


def by_main_process(accelerator: Accelerator, action: Callable[[], object]) -> object:
    """What `action` gives, called by the main process alone, in all processes; where it raises, all raise.

    Otherwise the others would wait for ever for a process that has left. The main one raises its own error; the others
    a ValueError with its words where it is one, else a RuntimeError that names it.
    """
    answer: list = [None, None, None]
    caught = None
    if accelerator.is_main_process:
        try:
            answer[0] = action()
        except Exception as error:
            caught = error
            answer[1:] = [isinstance(error, ValueError), f"{type(error).__name__}: {error}"]
    result, is_value_error, said = broadcast_object_list(answer)
    if caught is not None:
        raise caught
    if said is not None:
        raise ValueError(said.partition(": ")[2]) if is_value_error else RuntimeError(f"in the main process: {said}")
    return result


def by_all_processes(accelerator: Accelerator, action: Callable[[], None]) -> None:
    """Call `action` in every process and wait for all; where one raises, all raise, those that could a RuntimeError."""
    said, caught = "", None
    try:
        action()
    except Exception as error:
        said, caught = f"{type(error).__name__}: {error}", error
    others = [said] if accelerator.num_processes == 1 else gather_object([said])
    if caught is not None:
        raise caught
    for index, words in enumerate(others):
        if words:
            raise RuntimeError(f"in process {index}: {words}")


def over_processes(x: Tensor) -> Tensor:
    """The sum of a tensor over the processes that train together, in each of them; alone, the tensor itself.

    No gradient flows through it: it is for counts and running sums. All processes must call it, with equal shapes.
    """
    if not _together():
        return x
    total = x.detach().clone()
    torch.distributed.all_reduce(total)
    return total


def gathered(x: Tensor) -> Tensor:
    """The tensors of all processes along their first dimension, in the order of the processes; alone, the tensor.

    No gradient flows through it. All processes must call it, with equal shapes.
    """
    if not _together():
        return x
    parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def end_processes(accelerator: Accelerator) -> None:
    """Leave the process group, as the last thing a script of several processes does; alone, it changes nothing.

    Python must not shut down while a thread of the group still lets go of a tensor: such a process is aborted now and
    then (SIGABRT, "terminate called without an active exception"), though its work is done. So all wait for a last
    exchange that holds no tensor, and collecting the garbage gives the threads the time to drop what came before it.
    Source: https://github.com/pytorch/pytorch/issues/190489.
    """
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()                 # the store is the main process's: nobody may need it any more
        gc.collect()
        accelerator.end_training()
