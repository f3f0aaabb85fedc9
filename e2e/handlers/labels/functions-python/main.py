"""Draws labels, and counts by a cookie how many a customer has asked for."""

import functions_framework
from flask import Response

from shop import labels


@functions_framework.http
def draw(request):
    if request.path == "/echo":
        return Response(request.get_data(), content_type=request.content_type)
    seen = int(request.cookies.get("seen", 0)) + 1
    text = request.args.get("text", "nothing")
    print("label", seen, "for", text)
    response = Response(labels.picture(text), content_type="image/png")
    response.set_cookie("seen", str(seen))
    response.set_cookie("shop", "rouse")
    return response
