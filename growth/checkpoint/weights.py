"""All weight files of a result: by the workers of this process, beside those of other ranks, and going
on from what an interrupted growth finished."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from growth.checkpoint.ranks import Ranks
from growth.checkpoint.shards import Done, Growth, Shard, write_shard
from growth.checkpoint.unfinished import Unfinished
from growth.hf.source_files import SourceFiles
from growth.weights.workers import Stop, Workers, mapping, one_thread_each, side_by_side

Progress = Callable[[int, int, str], None]
"""Called with (bytes written, bytes in all, name of the current tensor)."""

_log = logging.getLogger(__name__)


def write_weights(
    folder: Path,
    growth: Growth,
    shards: Sequence[Shard],
    unfinished: Unfinished,
    ranks: Ranks,
    workers: Workers,
    progress: Progress | None,
) -> list[Done]:
    """Write the shards that are this rank's, and wait for those of the others.

    Args:
        folder: to write into.
        growth: what the shards are made of.
        shards: all of them.
        unfinished: what is finished already, and where to note what is.
        ranks: the processes that share the work.
        workers: of this process.
        progress: told of the bytes of this rank.

    Returns:
        What was written, in the order of the shards, by all ranks.
    """
    with ranks.agreeing():
        finished = unfinished.begin(shards, folder) if ranks.first else {}
    finished = ranks.tell(finished)
    own = ranks.share(list(shards))
    stop = Stop(unfinished.folder / f"stop-{folder.name}" if ranks.count > 1 else None)
    told = _Told(progress, sum(shard.size for shard in own))

    def write(shard: Shard) -> Done:
        stop.check_everywhere()
        if (done := finished.get(shard.file)) is not None:
            if done.is_in(folder, stop.check_everywhere):
                told(shard.size, shard.names[-1])
                return done
            _log.warning("%s is not what was written, and is written anew", folder / shard.file)

        with mapping(workers.blocks, stop.check_everywhere) as each:
            done = write_shard(folder, shard, growth, told, each)
        unfinished.add(folder, done)
        return done

    with ranks.agreeing():
        try:
            with one_thread_each():
                written = side_by_side(write, own, workers.lanes, stop)
        except BaseException:
            stop.set_everywhere()
            raise
    by_file = {done.file: done for part in ranks.gather(written) for done in part}
    return [by_file[shard.file] for shard in shards]


def read_hashes(source: SourceFiles, paths: Sequence[Path], ranks: Ranks, lanes: int) -> dict[str, str]:
    """SHA-256 of files of a source, by their names in its folder. What was not hashed as it was read is
    read now.

    Args:
        source: the source.
        paths: the files.
        ranks: each reads the files that are its own (`Ranks.share`).
        lanes: number of files that are read at a time.
    """
    own, stop = ranks.share(list(paths)), Stop()

    def hashed(path: Path) -> tuple[str, str]:
        return str(path.relative_to(source.folder)), source.sha256(path, stop.check)

    with ranks.agreeing():
        read = side_by_side(hashed, own, min(lanes, len(own)), stop)
    found = {name: digest for part in ranks.gather(read) for name, digest in part}
    return {name: found[name] for name in (str(path.relative_to(source.folder)) for path in paths)}


class _Told:
    """Adds up what the workers report, for a function that is called by one at a time."""

    def __init__(self, progress: Progress | None, size: int) -> None:
        self.progress, self.size, self.done, self.lock = progress, size, 0, threading.Lock()

    def __call__(self, size: int, name: str) -> None:
        with self.lock:
            self.done += size
            if self.progress is not None:
                self.progress(self.done, self.size, name)
