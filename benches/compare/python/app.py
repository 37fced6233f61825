"""Python Celery's side of the comparison: the task, the worker's settings, and the sending of many.

COMPARE_BROKER_URL and COMPARE_RESULTS_URL say where. `python app.py COUNT` sends; `python -m celery -A app worker ...` works.
"""

import os
import sys

from celery import Celery

BROKER = os.environ["COMPARE_BROKER_URL"]
RESULTS = os.environ["COMPARE_RESULTS_URL"]

# A sender that knows of a backend would subscribe to each of its results.
app = Celery("compare", broker=BROKER, backend=None if __name__ == "__main__" else RESULTS)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    worker_disable_rate_limits=True,
    worker_prefetch_multiplier=64,
)


@app.task(name="add")
def add(x, y):
    return x + y


if __name__ == "__main__":
    with app.producer_or_acquire() as producer:
        for number in range(int(sys.argv[1])):
            add.apply_async((number, 1), producer=producer)
