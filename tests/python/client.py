"""A Python client that does what it is told: a request in JSON on each line of its input, a reply on each line of its output.

It ends with its input. A request that cannot be done is answered by {"broken": traceback}.
"""

import base64
import datetime
import json
import os
import queue
import sys
import threading
import traceback

import celery.canvas
from celery.result import AsyncResult, ResultSet
from celery.states import READY_STATES

import peer_app
from peer_app import app

#: How the end of each task came to be known: pushed by the backend, or by looking.
came_by = {}


def watch_the_consumer():
    consumer = getattr(app.backend, "result_consumer", None)
    if consumer is None:
        return
    on_state_change = consumer.on_state_change

    def watched(meta, message):
        if meta["status"] in READY_STATES:
            came_by.setdefault(meta["task_id"], "look" if message is None else "push")
        return on_state_change(meta, message)

    consumer.on_state_change = watched


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def described(exception):
    of = type(exception)
    return {
        "class": f"{of.__module__}.{of.__qualname__}",
        "args": list(exception.args),
        "is": [f"{base.__module__}.{base.__qualname__}" for base in of.__mro__],
        "text": str(exception),
    }


def send(name, args=(), kwargs=None, options=None):
    """Options are those of `apply_async`; `eta`, and `expires` if it is no number of seconds, in ISO 8601."""
    options = dict(options or {})
    for option in ("eta", "expires"):
        if isinstance(options.get(option), str):
            options[option] = moment(options[option])
    task = app.tasks.get(name)
    if task is None:
        return {"id": app.send_task(name, args, kwargs, **options).id}
    return {"id": task.apply_async(args, kwargs, **options).id}


def get(id, timeout=60):
    try:
        value = AsyncResult(id, app=app).get(timeout=timeout)
    except Exception as exception:
        return {"error": described(exception), "by": came_by.get(id)}
    return {"ok": value, "by": came_by.get(id)}


def get_many(ids, timeout=60):
    try:
        return {"ok": ResultSet([AsyncResult(id, app=app) for id in ids], app=app).get(timeout=timeout)}
    except Exception as exception:
        return {"error": described(exception)}


def state(id):
    result = AsyncResult(id, app=app)
    info = result.info
    return {"state": result.state, "info": described(info) if isinstance(info, BaseException) else info}


def raw(id):
    """The stored bytes, of backends that store by key."""
    stored = app.backend.get(app.backend.get_key_for_task(id))
    return {"raw": None if stored is None else base64.b64encode(stored).decode()}


def evaluate(code):
    """For whatever has no request of its own: an expression over the app and Celery."""
    return {"ok": eval(code, {"app": app, "celery": celery, **vars(celery.canvas), **vars(peer_app)})}


REQUESTS = {"send": send, "get": get, "get_many": get_many, "state": state, "raw": raw, "evaluate": evaluate}


def read(lines):
    for line in sys.stdin:
        lines.put(line)
    # Nobody is left to read a reply, also if one is being waited for.
    os._exit(0)


def main():
    # What libraries print is no reply.
    replies, sys.stdout = sys.stdout, sys.stderr
    lines = queue.Queue()
    threading.Thread(target=read, args=(lines,), daemon=True).start()
    watch_the_consumer()
    while True:
        request = json.loads(lines.get())
        try:
            reply = REQUESTS[request.pop("do")](**request)
        except Exception:
            reply = {"broken": traceback.format_exc()}
        # What JSON does not know is told as Python would show it.
        print(json.dumps(reply, default=repr), file=replies, flush=True)


if __name__ == "__main__":
    main()
