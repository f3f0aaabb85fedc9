// Draws labels, and counts by a cookie how many a customer has asked for.
'use strict';

const functions = require('@google-cloud/functions-framework');
const { parseCookie } = require('cookie');
const { picture } = require('./lib/labels');

functions.http('draw', (request, response) => {
  if (request.path === '/echo') return response.type(request.get('content-type')).send(request.rawBody);
  const seen = Number(parseCookie(request.get('cookie') ?? '').seen ?? 0) + 1;
  const text = request.query.text ?? 'nothing';
  console.log('label', seen, 'for', text);
  response.cookie('seen', seen).cookie('shop', 'rouse');
  return response.type('image/png').send(picture(text));
});
