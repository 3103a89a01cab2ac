"""Work that several processes of this machine share; one that fails stops all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Work = Callable[[Iterator, int], Iterator]
"""work(items, share) -> each item, when it is done; runs in a process of its own, which has this number."""


def share(work: Work, items: Sequence, processes: int, report: Callable) -> None:
    """Have several processes work, each taking the next item when it has done one.

    Args:
        work: what each does; it is pickled.
        processes: at most so many, each with its part of this process's threads.
        report: called with each item that is done.

    Raises:
        RuntimeError: one of them failed; the others were stopped.
    """
    import multiprocessing
    import queue

    context = multiprocessing.get_context("spawn")
    todo, done = context.Queue(), context.Queue()
    count = min(processes, len(items))
    for item in [*items, *[None] * count]:
        todo.put(item)
    threads = max(1, torch.get_num_threads() // count)
    workers = [context.Process(target=_worker, args=(work, i, threads, todo, done), daemon=True) for i in range(count)]
    try:
        for worker in workers:
            worker.start()
        left = len(items)
        while left:
            try:
                news = done.get(timeout=1)
            except queue.Empty:
                if gone := [i for i, worker in enumerate(workers) if worker.exitcode]:
                    raise RuntimeError(
                        f"process {gone[0] + 1} of {count} ended by itself (status {workers[gone[0]].exitcode}; too"
                        " little memory?); what is finished is kept"
                    ) from None
                continue
            if isinstance(news, str):
                raise RuntimeError(news)
            report(news)
            left -= 1
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()
        todo.cancel_join_thread()


def _worker(work: Work, number: int, threads: int, todo: Queue, done: Queue) -> None:
    """What each process runs."""
    import multiprocessing
    import signal
    import threading

    def follow_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees it too, and stops all
    threading.Thread(target=follow_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        for item in work(iter(todo.get, None), number):
            done.put(item)
    except Exception as error:  # of any kind: it must reach the reader of the parent's output
        done.put(f"{error or type(error).__name__} (process {number + 1}; what is finished is kept)")
