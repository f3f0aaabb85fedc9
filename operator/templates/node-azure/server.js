// A custom handler of Azure Functions: host.json says how it is started, hello/function.json where it is
// called (/api/hello).
'use strict';

const http = require('node:http');

http
  .createServer((request, response) => {
    response.setHeader('content-type', 'text/plain; charset=utf-8');
    if (request.method === 'POST') request.pipe(response);
    else response.end('Hello from Node.js\n');
  })
  .listen(process.env.FUNCTIONS_CUSTOMHANDLER_PORT, '127.0.0.1');
