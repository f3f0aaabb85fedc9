// Takes CloudEvents on $PORT: attributes come as headers, the data as the body. An answer of 2xx says that
// the event is done; after any other it comes again.
'use strict';

const http = require('node:http');

http
  .createServer(async (request, response) => {
    let data = '';
    for await (const part of request) data += part;
    const { 'ce-id': id, 'ce-type': type } = request.headers;
    console.log('took', type, id, data);
    response.end(`took ${id}\n`);
  })
  .listen(process.env.PORT, '127.0.0.1');
