// Listens on $PORT.
'use strict';

const http = require('node:http');

http
  .createServer((request, response) => {
    response.setHeader('content-type', 'text/plain; charset=utf-8');
    if (request.method === 'POST') request.pipe(response);
    else response.end('Hello from Node.js\n');
  })
  .listen(process.env.PORT, '127.0.0.1');
