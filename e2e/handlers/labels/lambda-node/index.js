// Draws labels, and counts by a cookie how many a customer has asked for.
'use strict';

const { parseCookie } = require('cookie');
const { picture } = require('./lib/labels');

exports.handler = async (event) => {
  if (event.rawPath === '/echo') {
    const headers = { 'content-type': event.headers['content-type'] };
    return { statusCode: 200, headers, body: event.body, isBase64Encoded: event.isBase64Encoded };
  }
  const seen = Number(parseCookie((event.cookies ?? []).join('; ')).seen ?? 0) + 1;
  const text = event.queryStringParameters?.text ?? 'nothing';
  console.log('label', seen, 'for', text);
  return {
    statusCode: 200,
    headers: { 'content-type': 'image/png' },
    cookies: [`seen=${seen}; Path=/`, 'shop=rouse'],
    body: picture(text).toString('base64'),
    isBase64Encoded: true,
  };
};
