// Package shop draws labels of parcels.
package shop

import "rsc.io/qr"

// Label is a QR code of a text, as a picture.
func Label(text string) ([]byte, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, err
	}
	code.Scale = 4
	return code.PNG(), nil
}
