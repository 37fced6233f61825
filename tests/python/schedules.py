"""What Python's Celery says comes next: a list of requests in JSON on its input, a list of answers on its output.

A request names a kind, its arguments, a time zone and the times to start from, in microseconds since 1970. Its answer is the next time for each of
them, or null if Celery does not take such a schedule. For the kind `height` it is instead, for each time, how far the sun is above where it is to be
at that event, in millionths of a degree, as ephem has it.
"""

import json
import math
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import ephem
from celery import Celery
from celery.schedules import ParseException, crontab, schedule, solar

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)

apps = {}


def app_in(zone):
    if zone not in apps:
        apps[zone] = Celery(set_as_current=False, changes={"timezone": zone})
    return apps[zone]


def made(request, **options):
    kind, args = request["kind"], request["args"]
    if kind == "crontab":
        return crontab(*args, **options)
    if kind == "relative":
        return schedule(timedelta(milliseconds=args[0]), relative=True, **options)
    if kind == "solar":
        return solar(*args, **options)
    raise LookupError(kind)


def following(of, start):
    """As the beat does: how long it still is from the last run to the next, at the time of the last run."""
    of.nowfun = lambda: start
    return (start.astimezone(timezone.utc) - EPOCH + of.remaining_estimate(start)) // MICROSECOND


def height(event, latitude, longitude, at):
    of = solar(event, latitude, longitude, app=app_in("UTC"))
    of.cal.date = at.replace(tzinfo=None)
    sun = ephem.Sun(of.cal)
    edge = sun.alt + (0 if of.use_center else sun.radius)
    return round(math.degrees(edge - of.cal.horizon) * 1e6)


def answer(request):
    zone = ZoneInfo(request["zone"])
    if request["kind"] == "height":
        return [height(*request["args"], EPOCH + at * MICROSECOND) for at in request["starts"]]
    try:
        of = made(request, app=app_in(request["zone"]))
    except (ParseException, ValueError):
        return None
    return [following(of, (EPOCH + start * MICROSECOND).astimezone(zone)) for start in request["starts"]]


json.dump([answer(request) for request in json.load(sys.stdin)], sys.stdout)
