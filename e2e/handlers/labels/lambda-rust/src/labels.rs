//! Labels of parcels: a QR code of a text, as a picture.

use png::{BitDepth, ColorType, Encoder};
use qrcodegen::{QrCode, QrCodeEcc};

/// Pixels of each square.
const SCALE: u32 = 4;

pub fn picture(text: &str) -> Result<Vec<u8>, lambda_http::Error> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium)?;
    let side = code.size().unsigned_abs() * SCALE;
    let mut picture = Vec::new();
    let mut encoder = Encoder::new(&mut picture, side, side);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    let at = |pixel: u32| (pixel / SCALE).cast_signed();
    let shade = |x, y| if code.get_module(at(x), at(y)) { 0 } else { 255 };
    let pixels: Vec<u8> = (0..side).flat_map(|y| (0..side).map(move |x| shade(x, y))).collect();
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(picture)
}
