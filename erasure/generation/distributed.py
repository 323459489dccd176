"""Images that several processes draw together, as torchrun starts them: who draws what, and who speaks.

torchrun --nproc_per_node 4 eval-scripts/generate-images.py --model_name toy --prompts_path data/quickstart.csv --save_path images

Each process (a rank) runs the whole script: it reads the prompts, loads the model on its own device and forms the batches
of all images. Of the batches that something is missing of, each draws every count-th, so that an image is drawn in the same
batch, to the same bytes, however many ranks there are. On CPUs its last bits also depend on the threads of a process, of
which torchrun gives each one unless OMP_NUM_THREADS says otherwise.

The first rank looks at what the folder holds before any of them draws, and writes the manifest when all are done. Files
that a script writes after that are the same from every rank, and each appears in one step. Lightning Fabric connects the
ranks, by gloo on any device: nothing travels but what is missing, and that a rank is done.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from erasure import errors
from erasure.errors import UserError

_T = TypeVar("_T")
_PATIENCE = timedelta(days=7)  # for a rank that still draws; torchrun ends those that wait for one that failed
_MOMENT = timedelta(seconds=10)
_FAILED = 1  # the exit code of a rank that leaves it to another to say why


def count() -> int:
    """Processes that run this script together: 1 unless torchrun started several."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def local_rank() -> int:
    """This process among those of its machine, from 0."""
    return int(os.environ["LOCAL_RANK"]) if count() > 1 else 0


# ---- drawing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranks:
    """The processes that draw together, seen from one of them; a process by itself is all of them."""

    index: int = 0
    count: int = 1
    fabric: Any = None  # lightning.fabric.Fabric, launched; None for a process by itself

    @property
    def first(self) -> bool:
        return self.index == 0

    def share(self, items: Iterable[_T]) -> list[_T]:
        """This rank's part of `items`, which must be the same for all: each goes to one rank, parts differ by one at most."""
        return list(items)[self.index :: self.count]

    def agree(self, find: Callable[[], _T]) -> _T:
        """What `find` returns on the first rank, for all of them. The others wait for it, without calling it."""
        found = find() if self.first else None
        with self._connected():
            return self.fabric.broadcast(found) if self.fabric else found

    def wait(self) -> None:
        """Until all ranks are here."""
        with self._connected():
            if self.fabric:
                self.fabric.barrier()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            message = f"another of the {self.count} processes ended without a word; the same command goes on from here"
            raise UserError(message) from None


ALONE = Ranks()


def join() -> Ranks:
    """Meet the other processes of this run, if there are any; all of them must call it."""
    if count() == 1:
        return ALONE
    import logging

    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy

    for part in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(part).setLevel(logging.WARNING)  # that it has begun is no news
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    strategy = DDPStrategy(process_group_backend="gloo", timeout=_PATIENCE)
    fabric = Fabric(accelerator="cpu", strategy=strategy, devices=here, num_nodes=count() // here)
    with _hushed():
        fabric.launch()
    return Ranks(fabric.global_rank, fabric.world_size, fabric)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without what libraries in C++ print: gloo says on standard output, not in a log, whom it has met."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


# ---- speaking ------------------------------------------------------------------------------------------------------


def run(main: Callable[[], int | None]) -> NoReturn:
    """`errors.run` for a script that torchrun may start several times: it prints what one process would.

    Only the first rank prints; of ranks that fail, whichever is the first to says why, and torchrun ends the others.
    """
    errors.run(functools.partial(_with_one_voice, main) if count() > 1 else main)


def _with_one_voice(main: Callable[[], int | None]) -> int | None:
    first = os.environ["RANK"] == "0"
    try:
        if first:
            return main()
        nowhere = open(os.devnull, "w")  # noqa: SIM115 - loggers made by then keep it to the end
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            return main()
    except KeyboardInterrupt:
        if local_rank():
            return errors.INTERRUPTED
        raise
    except Exception:
        if not _first_to_fail():
            return _FAILED
        if not first:
            print(file=sys.stderr)  # the bar of the first rank may be on this line
        raise


def _first_to_fail() -> bool:
    """Whether no other rank has said yet that it failed. They count in the store by which torchrun lets its processes meet."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    from torch.distributed import TCPStore

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun --max_restarts keeps the store
    try:
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_MOMENT)
        return store.add(f"erasure/failed/{attempt}", 1) == 1
    except RuntimeError:  # torchrun itself is gone
        return True
