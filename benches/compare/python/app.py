"""Python Celery's side of the comparison and of the speed bench: the tasks, the worker's settings, and the sending of many.

COMPARE_BROKER_URL and COMPARE_RESULTS_URL say where. `python app.py send TASK COUNT` sends, and prints the seconds that it took, and those of the
processor; `python app.py work` works, prefork with two processes; `python app.py lone COUNT` sends one after the other, waits for each result, and
prints the microseconds that each took.
"""

import os
import sys
import time

from celery import Celery

BROKER = os.environ["COMPARE_BROKER_URL"]
RESULTS = os.environ["COMPARE_RESULTS_URL"]

# What makes a worker start sooner and talk less; none of it stores results or runs tasks.
WITHOUT = ["--without-gossip", "--without-mingle", "--without-heartbeat"]

mode, *words = sys.argv[1:]

# A sender that knows of a backend would subscribe to each of its results.
app = Celery("compare", broker=BROKER, backend=None if mode == "send" else RESULTS)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    worker_disable_rate_limits=True,
    worker_prefetch_multiplier=64,
)


@app.task(name="add")
def add(x, y):
    return x + y


@app.task(name="count", ignore_result=True)
def count(x, y):
    return x + y


def send(name, total):
    task = app.tasks[name]
    wall, busy = time.perf_counter(), time.process_time()
    with app.producer_or_acquire() as producer:
        for number in range(total):
            task.apply_async((number, 1), producer=producer)
    print(time.perf_counter() - wall, time.process_time() - busy, sep="\n")


def lone(total):
    # The first waits for the worker to start.
    add.delay(0, 1).get()
    for number in range(total):
        start = time.perf_counter()
        add.delay(number, 1).get()
        print((time.perf_counter() - start) * 1e6)


if mode == "send":
    send(words[0], int(words[1]))
elif mode == "lone":
    lone(int(words[0]))
else:
    app.worker_main(["worker", "-P", "prefork", "-c", "2", "-l", "ERROR", *WITHOUT])
