"""The Celery app of the peers. Whom it talks to, and how, is in its environment.

BROKER_URL, RESULT_BACKEND: URLs. CELERY_EXTRA: further settings, as JSON. TRACE_FILE, TRACE_SLEEP: for `peers.trace`.
"""

import json
import os
import time

from celery import Celery
from celery.exceptions import Ignore

app = Celery("peers", broker=os.environ["BROKER_URL"], backend=os.environ.get("RESULT_BACKEND"))
app.conf.update(json.loads(os.environ.get("CELERY_EXTRA", "{}")))


class CustomError(Exception):
    """An exception that another language has never heard of."""

    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


@app.task(name="peers.add")
def add(x, y):
    return x + y


@app.task(name="peers.echo")
def echo(*args, **kwargs):
    return [args, kwargs]


@app.task(name="peers.request", bind=True)
def request(self, *_args, **_kwargs):
    """What the worker knows about the message, as far as it is JSON."""
    seen = {}
    for name, value in vars(self.request).items():
        try:
            seen[name] = json.loads(json.dumps(value))
        except TypeError:
            pass
    return seen


@app.task(name="peers.fail")
def fail(message):
    raise ValueError(message)


@app.task(name="peers.custom_fail")
def custom_fail(code, detail):
    raise CustomError(code, detail)


@app.task(name="peers.retry", bind=True, max_retries=3)
def retry(self, times, countdown=0):
    """Succeeds at the attempt that follows so many others."""
    if self.request.retries < times:
        raise self.retry(countdown=countdown)
    return self.request.retries


@app.task(name="peers.progress", bind=True)
def progress(self, n):
    for i in range(1, n + 1):
        self.update_state(state="PROGRESS", meta={"current": i, "total": n})
    return n


@app.task(name="peers.steps", bind=True)
def steps(self, n, folder):
    """As `peers.progress`, but waits after each step until there is a file of its number in the folder."""
    for i in range(1, n + 1):
        self.update_state(state="PROGRESS", meta={"current": i, "total": n})
        while not os.path.exists(os.path.join(folder, str(i))):
            time.sleep(0.005)
    return n


@app.task(name="peers.parent")
def parent(x, y):
    """Sends another task, and tells its id."""
    return add.delay(x, y).id


@app.task(name="peers.custom_state", bind=True)
def custom_state(self, state, meta):
    """Leaves a state of its own behind, and no result."""
    self.update_state(state=state, meta=meta)
    raise Ignore()


@app.task(name="peers.sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="peers.ignored", ignore_result=True)
def ignored(value=None):
    return value


@app.task(name="peers.trace")
def trace(n):
    """Adds a line to a file, by one write, so that lines of many processes do not mix; then takes its time."""
    file = os.open(os.environ["TRACE_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, f"{n}\n".encode())
    finally:
        os.close(file)
    time.sleep(float(os.environ.get("TRACE_SLEEP", "0")))
    return n


@app.task(name="peers.large")
def large(size):
    return "x" * size
