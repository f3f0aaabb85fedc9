// A custom handler that is given requests as documents: it draws labels, and counts by a cookie how
// many a customer has asked for.
'use strict';

const http = require('node:http');
const { parseCookie } = require('cookie');
const { picture } = require('./lib/labels');

const draw = (req) => {
  const header = Object.entries(req.Headers).find(([name]) => name.toLowerCase() === 'cookie');
  const seen = Number(parseCookie([header?.[1] ?? ''].flat().join('; ')).seen ?? 0) + 1;
  const text = req.Query.text ?? 'nothing';
  return {
    statusCode: 200,
    headers: { 'content-type': 'image/svg+xml', 'set-cookie': `seen=${seen}` },
    // A body is text here; the picture is in it.
    body: `<svg xmlns="http://www.w3.org/2000/svg"><image href="data:image/png;base64,${picture(text).toString('base64')}"/></svg>`,
  };
};

http
  .createServer((request, response) => {
    // The host asks so whether anybody listens.
    if (request.method === 'GET') return response.end();
    const pieces = [];
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => {
      const { Data } = JSON.parse(Buffer.concat(pieces));
      const answer = { Outputs: { res: draw(Data.req) }, Logs: ['label drawn'], ReturnValue: null };
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(answer));
    });
  })
  .listen(process.env.FUNCTIONS_CUSTOMHANDLER_PORT, '127.0.0.1');
