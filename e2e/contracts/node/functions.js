// Functions for the functions framework.
'use strict';

exports.hello = (request, response) => {
  if (request.path === '/fail') throw new Error('on purpose');
  const body = Buffer.concat([Buffer.from('hello from node '), request.rawBody ?? Buffer.alloc(0)]);
  response.status(201).set('x-path', request.path).send(body);
};

exports.take = (event) => {
  console.log('took', event.id, event.type, JSON.stringify(event.data));
};

exports.old = (data, context) => {
  console.log('took', context.eventId, context.eventType, JSON.stringify(data));
};
