//! The figures of a replay as a drawing: cold starts against waste.

use super::summary::Summary;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const MARGIN: f64 = 70.0;

/// An SVG with a point for each policy: to the right more waste, upwards more cold starts by their
/// logarithm.
pub fn draw(summaries: &[Summary]) -> String {
    let most = summaries.iter().map(|summary| summary.relative_waste).fold(1.0, f64::max) * 1.1;
    let percents = || summaries.iter().map(|summary| summary.cold_percent.max(1e-4).log10());
    let low = percents().fold(f64::INFINITY, f64::min).floor();
    let high = percents().fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0);
    let x = |waste: f64| MARGIN + waste / most * (WIDTH - 2.0 * MARGIN);
    let y = |log: f64| HEIGHT - MARGIN - (log - low) / (high - low) * (HEIGHT - 2.0 * MARGIN);
    let mut lines = vec![format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
    )];
    let mut add = |line: String| lines.push(line);
    let (left, right, bottom) = (MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN);
    let mut decade = low;
    while decade <= high {
        let (at, percent) = (y(decade), 10_f64.powf(decade));
        add(format!("<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>"));
        let text = left - 6.0;
        add(format!("<text x=\"{text}\" y=\"{at:.1}\" text-anchor=\"end\">{percent} %</text>"));
        decade += 1.0;
    }
    let mut waste = 0.0;
    while waste <= most {
        let (at, text) = (x(waste), bottom + 18.0);
        add(format!("<path d=\"M{at:.1} {MARGIN}V{bottom}\" stroke=\"#ddd\"/>"));
        add(format!("<text x=\"{at:.1}\" y=\"{text}\" text-anchor=\"middle\">{waste:.2}x</text>"));
        waste += 0.25;
    }
    let (middle, below) = (WIDTH / 2.0, HEIGHT - 20.0);
    add(format!(
        "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">memory warm in vain, relative to \
         a fixed 10 minutes</text>"
    ));
    add(format!("<text x=\"{MARGIN}\" y=\"40\">requests that found no pod</text>"));
    for summary in summaries {
        let (x, y) = (x(summary.relative_waste), y(summary.cold_percent.max(1e-4).log10()));
        let (text, name) = (x + 8.0, summary.policy);
        add(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"#2563eb\"/>"));
        add(format!("<text x=\"{text:.1}\" y=\"{y:.1}\">{name}</text>"));
    }
    add("</svg>\n".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_stands_for_each_policy() {
        let summary = |policy, cold_percent, relative_waste| Summary {
            policy,
            calls: 1000,
            cold: 1,
            cold_percent,
            p50_percent: 0.0,
            p75_percent: 0.0,
            waste: 1.0,
            relative_waste,
            ..Summary::default()
        };
        let svg = draw(&[summary("fixed-10m", 0.08, 1.0), summary("rouse", 0.0, 0.5)]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains(">rouse</text>") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
