// A function for Google's functions framework.
const functions = require('@google-cloud/functions-framework');

functions.http('hello', (request, response) => {
  if (request.method === 'POST') response.send(request.rawBody);
  else response.send('Hello from Node.js\n');
});
