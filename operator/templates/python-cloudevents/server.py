"""Takes CloudEvents on $PORT: attributes come as headers, the data as the body. An answer of 2xx says that
the event is done; after any other it comes again."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        data = self.body()
        if "json" in self.headers.get("content-type", ""):
            data = json.loads(data)
        print("took", self.headers["ce-type"], self.headers["ce-id"], data, flush=True)
        body = f"took {self.headers['ce-id']}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def log_message(self, *_):
        pass


Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
