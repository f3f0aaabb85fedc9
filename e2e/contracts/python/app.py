"""A handler of Lambda as the tests want one: an echo for events, a few answers for requests."""

import json
import time

import lib.words


def handler(event, context):
    http = event.get("requestContext", {}).get("http") if isinstance(event, dict) else None
    if not http or "rawPath" not in event:
        return special(event)
    if "x-echo" in event["headers"]:
        return {"statusCode": 200, "body": json.dumps(event)}
    path = event["rawPath"]
    if path == "/fail":
        raise ValueError("on purpose")
    if path == "/print":
        print("printed", event["rawQueryString"], flush=True)
    if path == "/wait":
        time.sleep(0.3)
    if path == "/binary":
        return {
            "statusCode": 200,
            "headers": {"content-type": "image/png"},
            "body": event["body"],
            "isBase64Encoded": event["isBase64Encoded"],
        }
    return {
        "statusCode": 201,
        "headers": {"content-type": "text/plain"},
        "cookies": ["a=1; Secure", "b=2"],
        "body": lib.words.hello("python") + " " + ",".join(event.get("cookies", [])),
    }


def special(event):
    if isinstance(event, dict) and "sleep" in event:
        time.sleep(event["sleep"])
    if isinstance(event, dict) and "large" in event:
        return "x" * (event["large"] - 2)
    return event
