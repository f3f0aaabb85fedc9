"""Functions for the functions framework."""

import functions_framework
from flask import Response


@functions_framework.http
def hello(request):
    if request.path == "/fail":
        raise ValueError("on purpose")
    return Response(b"hello from python " + request.get_data(), 201, {"x-path": request.path})


@functions_framework.cloud_event
def take(event):
    print("took", event["id"], event["type"], event.data, flush=True)


def old(data, context):
    print("took", context.event_id, context.event_type, data, flush=True)
