package shop;

import io.nayuki.qrcodegen.QrCode;
import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import javax.imageio.ImageIO;

/** Labels of parcels: a QR code of a text, as a picture. */
final class Labels {
  /** Pixels of each square. */
  private static final int SCALE = 4;

  private Labels() {}

  static byte[] picture(String text) throws IOException {
    QrCode code = QrCode.encodeText(text, QrCode.Ecc.MEDIUM);
    int side = code.size * SCALE;
    BufferedImage image = new BufferedImage(side, side, BufferedImage.TYPE_BYTE_GRAY);
    for (int y = 0; y < side; y++) {
      for (int x = 0; x < side; x++) {
        image.setRGB(x, y, code.getModule(x / SCALE, y / SCALE) ? 0 : 0xffffff);
      }
    }
    ByteArrayOutputStream picture = new ByteArrayOutputStream();
    ImageIO.write(image, "png", picture);
    return picture.toByteArray();
  }
}
