"""librosa's compiled loops, put into numba's cache by one process before several need them.

librosa compiles its NumPy ufuncs when their module is first imported and keeps each in two files. Two processes that
do so at once can leave files of both that don't fit each other; every later call then ends in a segmentation fault
(numba issue 10128). That needs a new installation and two notebooks started together: what a test run does.
"""

import importlib
import os
import pkgutil
import subprocess
import sys


def fill_numba_cache(folder: str | os.PathLike | None = None) -> None:
    """Import every module of librosa once in a process of its own, which compiles what is not in numba's cache.

    About 25 s after an installation, 6 s later. `folder`: the cache, else $NUMBA_CACHE_DIR or numba's choice (beside
    librosa's files). A failure is left to whoever imports librosa next: it shows there, with its cause.
    """
    environment = dict(os.environ) if folder is None else dict(os.environ, NUMBA_CACHE_DIR=os.fspath(folder))
    subprocess.run([sys.executable, "-m", __name__], env=environment, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    import librosa

    for module in pkgutil.walk_packages(librosa.__path__, "librosa."):
        importlib.import_module(module.name)
