// A handler of Lambda as the tests want one: an echo for events, a few answers for requests.
'use strict';

const { hello } = require('./lib/words');

exports.handler = async (event) => {
  if (event?.sleep) await new Promise((done) => setTimeout(done, event.sleep * 1000));
  if (event?.large) return 'x'.repeat(event.large - 2);
  if (!event?.requestContext?.http || event.rawPath === undefined) return event;
  switch (event.rawPath) {
    case '/fail':
      throw new Error('on purpose');
    case '/print':
      console.log('printed', event.rawQueryString);
      break;
    case '/wait':
      await new Promise((done) => setTimeout(done, 300));
      break;
    case '/binary':
      return {
        statusCode: 200,
        headers: { 'content-type': 'image/png' },
        body: event.body,
        isBase64Encoded: event.isBase64Encoded,
      };
  }
  return {
    statusCode: 201,
    headers: { 'content-type': 'text/plain' },
    cookies: ['a=1; Secure', 'b=2'],
    body: `${hello('node')} ${(event.cookies ?? []).join(',')}`,
  };
};

// The runtime gives `awslambda` to handlers that stream.
if (globalThis.awslambda) {
  exports.stream = awslambda.streamifyResponse(async (event, stream) => {
    const head = { statusCode: 202, headers: { 'x-a': '1' }, cookies: ['c=1'] };
    const body = awslambda.HttpResponseStream.from(stream, head);
    for (const piece of ['one,', 'two,', 'three']) {
      body.write(piece);
      await new Promise((done) => setTimeout(done, 50));
    }
    body.end();
  });
}
