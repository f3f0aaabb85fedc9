"""A handler of AWS Lambda. Requests come as events of an HTTP API (payload 2.0), those of Triggers with
`format: Lambda` as what AWS sends."""


def handler(event, context):
    if "rawPath" not in event:
        print("took an event:", event)
        return event
    return {
        "statusCode": 200,
        "headers": {"content-type": "text/plain; charset=utf-8"},
        "body": "Hello from Python\n",
    }
