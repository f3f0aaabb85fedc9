// A handler of AWS Lambda. Requests come as events of an HTTP API (payload 2.0), those of Triggers with
// `format: Lambda` as what AWS sends.
export const handler = async (event) => {
  if (!('rawPath' in event)) {
    console.log('took an event:', event);
    return event;
  }
  return {
    statusCode: 200,
    headers: { 'content-type': 'text/plain; charset=utf-8' },
    body: 'Hello from Node.js\n',
  };
};
