const functions = require('@google-cloud/functions-framework');

functions.http('hello', (request, response) => response.send('hello from Node.js'));
