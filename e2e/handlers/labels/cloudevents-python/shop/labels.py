"""Labels of parcels: a QR code of a text, as a picture."""

import io

import segno


def picture(text):
    picture = io.BytesIO()
    segno.make(text).save(picture, kind="png", scale=4)
    return picture.getvalue()
