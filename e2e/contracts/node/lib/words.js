// What is said: in a file of its own, as handlers have several.
'use strict';

exports.hello = (who) => `hello from ${who}`;
