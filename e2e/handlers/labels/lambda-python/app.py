"""Draws labels, and counts by a cookie how many a customer has asked for."""

import base64
from http.cookies import SimpleCookie

from shop import labels


def handler(event, context):
    path = event["rawPath"]
    if path == "/echo":
        body, encoded = event["body"], event["isBase64Encoded"]
        kind = event["headers"]["content-type"]
        return answer(body, kind, encoded=encoded)
    cookies = SimpleCookie("; ".join(event.get("cookies", [])))
    seen = int(cookies["seen"].value) + 1 if "seen" in cookies else 1
    text = event.get("queryStringParameters", {}).get("text", "nothing")
    print("label", seen, "for", text)
    picture = base64.b64encode(labels.picture(text)).decode()
    return answer(picture, "image/png", [f"seen={seen}; Path=/", "shop=rouse"], encoded=True)


def answer(body, kind, cookies=(), encoded=False):
    return {
        "statusCode": 200,
        "headers": {"content-type": kind},
        "cookies": list(cookies),
        "body": body,
        "isBase64Encoded": encoded,
    }
