//! Makes thumbnails of pictures, and tells of them.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::bucket::Bucket;
use crate::{Cause, Event, Failure, variable};

/// Pixels that a thumbnail has at most, each way.
const SIDE: u32 = 64;
/// Pixels that a picture may have, each way.
const LARGEST: u32 = 10_000;

/// Publishes messages to a stream; connects when the first is to be published.
pub(crate) struct Publisher {
    url: String,
    subject: String,
    context: OnceCell<async_nats::jetstream::Context>,
}

impl Publisher {
    /// The subject that the environment names.
    pub fn from_environment() -> Result<Self, Cause> {
        let (url, subject) = (variable("NATS_URL")?, variable("NATS_SUBJECT")?);
        Ok(Self { url, subject, context: OnceCell::new() })
    }

    /// Publishes `message`, once for each `id`; it is stored when this returns.
    async fn publish(&self, id: &str, message: &Value) -> Result<(), Cause> {
        let connect = async || {
            let client = async_nats::connect(&self.url).await?;
            Ok::<_, Cause>(async_nats::jetstream::new(client))
        };
        let context = self.context.get_or_try_init(connect).await?;
        let message = async_nats::jetstream::message::PublishMessage::build()
            .message_id(id)
            .payload(message.to_string().into());
        context.send_publish(self.subject.clone(), message).await?.await?;
        Ok(())
    }
}

/// Makes the thumbnail of the picture that `event` is about.
pub(crate) async fn make(
    bucket: &Bucket,
    publisher: &Publisher,
    event: &Event,
) -> Result<(), Failure> {
    let data: Value = serde_json::from_slice(&event.data).map_err(|error| never(&error))?;
    let key = data["key"].as_str().ok_or_else(|| never(&"the event names no object"))?;
    // One that is gone again needs none.
    let Some(picture) = bucket.get(key).await? else { return Ok(()) };
    let small = shrink(&picture).map_err(|error| never(&error))?;
    let thumbnail = format!("thumbnails/{key}");
    bucket.put(&thumbnail, small).await?;
    publisher.publish(&event.id, &json!({"picture": key, "thumbnail": thumbnail})).await?;
    Ok(())
}

fn never(why: &dyn std::fmt::Display) -> Failure {
    Failure::Never(why.to_string())
}

fn shrink(picture: &[u8]) -> image::ImageResult<Vec<u8>> {
    let mut reader = ImageReader::with_format(Cursor::new(picture), ImageFormat::Png);
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(LARGEST), Some(LARGEST));
    reader.limits(limits);
    let mut small = Cursor::new(Vec::new());
    reader.decode()?.thumbnail(SIDE, SIDE).write_to(&mut small, ImageFormat::Png)?;
    Ok(small.into_inner())
}

#[cfg(test)]
mod tests {
    use image::{GenericImageView, RgbImage};

    use super::*;

    #[test]
    fn a_picture_becomes_small_and_what_is_none_is_refused() {
        let mut picture = Cursor::new(Vec::new());
        RgbImage::new(640, 320).write_to(&mut picture, ImageFormat::Png).unwrap();
        let small = shrink(picture.get_ref()).unwrap();
        let small = image::load_from_memory_with_format(&small, ImageFormat::Png).unwrap();
        assert_eq!(small.dimensions(), (64, 32));
        assert!(shrink(b"no picture").is_err());
    }
}
