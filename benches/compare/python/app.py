"""Python Celery's side of the comparison: the task, the worker's settings, and the sending of many.

COMPARE_REDIS_URL says where. `python app.py COUNT` sends; `python -m celery -A app worker ...` works.
"""

import os
import sys

from celery import Celery

URL = os.environ["COMPARE_REDIS_URL"]

# A sender that knows of a backend would subscribe to each of its results.
app = Celery("compare", broker=URL, backend=None if __name__ == "__main__" else URL)
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
