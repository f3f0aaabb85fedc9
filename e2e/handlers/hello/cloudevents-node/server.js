// The least that takes CloudEvents on $PORT: it answers with the id.
'use strict';

const http = require('node:http');

http
  .createServer((request, response) => {
    request.resume().on('end', () => response.end(`took ${request.headers['ce-id']}`));
  })
  .listen(process.env.PORT);
