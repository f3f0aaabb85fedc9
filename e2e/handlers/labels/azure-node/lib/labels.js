// Labels of parcels: the bits of a text as black and white squares.
'use strict';

const { PNG } = require('pngjs');

exports.picture = (text) => {
  const bytes = Buffer.from(text);
  const picture = new PNG({ width: 8, height: Math.max(bytes.length, 1), colorType: 0 });
  picture.data.fill(255);
  bytes.forEach((byte, row) => {
    for (let bit = 0; bit < 8; bit += 1) {
      if ((byte >> bit) & 1) picture.data.fill(0, (row * 8 + bit) * 4, (row * 8 + bit) * 4 + 3);
    }
  });
  return PNG.sync.write(picture);
};
