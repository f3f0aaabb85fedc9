// A custom handler that takes orders by requests, passes them on by a queue, works on them, and is called
// by the clock.
'use strict';

const http = require('node:http');

const taken = [];
let ticks = 0;

const functions = {
  order: ({ req }) => ({ res: { statusCode: 202 }, work: JSON.parse(req.Body).orders }),
  // A message is a text, written as JSON once more.
  take: ({ item }) => {
    taken.push(JSON.parse(item));
    return {};
  },
  seen: () => ({ res: { body: { taken, ticks } } }),
  tick: ({ tick }) => {
    ticks += tick.IsPastDue ? 0 : 1;
    return {};
  },
};

http
  .createServer((request, response) => {
    // The host asks so whether anybody listens.
    if (request.method === 'GET') return response.end();
    const pieces = [];
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => {
      const { Data, Metadata } = JSON.parse(Buffer.concat(pieces));
      const name = Metadata.sys.MethodName;
      const answer = { Outputs: functions[name](Data), Logs: [`${name} was called`] };
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(answer));
    });
  })
  .listen(process.env.FUNCTIONS_CUSTOMHANDLER_PORT, '127.0.0.1');
