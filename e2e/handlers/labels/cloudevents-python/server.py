"""Draws a label for each order that it is told of, and answers with the picture."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.http import from_http

from shop import labels


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        event = from_http(dict(self.headers), body)
        print("order", event["id"], event.data, flush=True)
        self.answer(200, "image/png", labels.picture(event.data["label"]))

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", int(os.environ["PORT"])), Orders).serve_forever()
