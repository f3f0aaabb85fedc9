// Draws labels, and counts by a cookie how many a customer has asked for.
'use strict';

const http = require('node:http');
const { parseCookie } = require('cookie');
const { picture } = require('./lib/labels');

http
  .createServer((request, response) => {
    const url = new URL(request.url, 'http://labels');
    if (url.pathname === '/echo') {
      response.setHeader('content-type', request.headers['content-type']);
      return request.pipe(response);
    }
    const seen = Number(parseCookie(request.headers.cookie ?? '').seen ?? 0) + 1;
    const text = url.searchParams.get('text') ?? 'nothing';
    console.log('label', seen, 'for', text);
    response.setHeader('content-type', 'image/png');
    response.setHeader('set-cookie', [`seen=${seen}; Path=/`, 'shop=rouse']);
    return response.end(picture(text));
  })
  .listen(process.env.PORT);
