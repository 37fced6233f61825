//! Where the sun stands, to about a second of arc.
//!
//! The Earth's place is VSOP87's (Bretagnon and Francou 1988), cut off below a millionth of a radian, as Meeus prints it in *Astronomical
//! Algorithms*; aberration, nutation, the ecliptic's tilt and sidereal time are as given there.

use std::f64::consts::PI;

/// An amplitude in 1e-8 radians or astronomical units, a phase in radians, a rate in radians per thousand years.
type Term = (f64, f64, f64);

/// The Earth's longitude; the terms of each row are multiplied by a power of the time.
const LONGITUDE: [&[Term]; 4] = [
    &[
        (175_347_046.0, 0.0, 0.0),
        (3_341_656.0, 4.669_256_8, 6_283.075_85),
        (34_894.0, 4.626_1, 12_566.151_7),
        (3_497.0, 2.744_1, 5_753.384_9),
        (3_418.0, 2.828_9, 3.523_1),
        (3_136.0, 3.627_7, 77_713.771_5),
        (2_676.0, 4.418_1, 7_860.419_4),
        (2_343.0, 6.135_2, 3_930.209_7),
        (1_324.0, 0.742_5, 11_506.769_8),
        (1_273.0, 2.037_1, 529.691),
        (1_199.0, 1.109_6, 1_577.343_5),
        (990.0, 5.233, 5_884.927),
        (902.0, 2.045, 26.298),
        (857.0, 3.508, 398.149),
        (780.0, 1.179, 5_223.694),
        (753.0, 2.533, 5_507.553),
        (505.0, 4.583, 18_849.228),
        (492.0, 4.205, 775.523),
        (357.0, 2.92, 0.067),
        (317.0, 5.849, 11_790.629),
        (284.0, 1.899, 796.298),
        (271.0, 0.315, 10_977.079),
        (243.0, 0.345, 5_486.778),
        (206.0, 4.806, 2_544.314),
        (205.0, 1.869, 5_573.143),
        (202.0, 2.458, 6_069.777),
        (156.0, 0.833, 213.299),
        (132.0, 3.411, 2_942.463),
        (126.0, 1.083, 20.775),
        (115.0, 0.645, 0.98),
        (103.0, 0.636, 4_694.003),
        (102.0, 0.976, 15_720.839),
        (102.0, 4.267, 7.114),
    ],
    &[
        (628_331_966_747.0, 0.0, 0.0),
        (206_059.0, 2.678_235, 6_283.075_85),
        (4_303.0, 2.635_1, 12_566.151_7),
        (425.0, 1.59, 3.523),
        (119.0, 5.796, 26.298),
        (109.0, 2.966, 1_577.344),
    ],
    &[(52_919.0, 0.0, 0.0), (8_720.0, 1.072_1, 6_283.075_8), (309.0, 0.867, 12_566.152)],
    &[(289.0, 5.844, 6_283.076)],
];

/// The Earth's distance from the sun.
const DISTANCE: [&[Term]; 2] = [
    &[(100_013_989.0, 0.0, 0.0), (1_670_700.0, 3.098_463_5, 6_283.075_85), (13_956.0, 3.055_25, 12_566.151_7)],
    &[(103_019.0, 1.107_49, 6_283.075_85)],
];

/// How far clocks are behind the even time that planets keep, in days: 69 s in these years, and not known for later ones. Ten seconds of it
/// shift an event by 0.03 s.
const CLOCKS_BEHIND: f64 = 69.0 / 86_400.0;

/// The sun as seen from the Earth's centre, in degrees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sun {
    right_ascension: f64,
    declination: f64,
    /// In astronomical units.
    distance: f64,
    /// What nutation adds to sidereal time.
    equinoxes: f64,
}

impl Sun {
    /// The sun at `days` of UTC since noon of 2000-01-01.
    pub(super) fn at(days: f64) -> Self {
        let centuries = (days + CLOCKS_BEHIND) / 36_525.0;
        let distance = series(&DISTANCE, centuries);
        let longitude = (series(&LONGITUDE, centuries) + PI).to_degrees() - arc_seconds(0.090_33);

        let node = (125.044_52 - 1_934.136_261 * centuries).to_radians();
        let sun = 2.0 * (280.466_5 + 36_000.769_8 * centuries).to_radians();
        let moon = 2.0 * (218.316_5 + 481_267.881_3 * centuries).to_radians();
        let nutation = -17.20 * node.sin() - 1.32 * sun.sin() - 0.23 * moon.sin() + 0.21 * (2.0 * node).sin();
        let swing = 9.20 * node.cos() + 0.57 * sun.cos() + 0.10 * moon.cos() - 0.09 * (2.0 * node).cos();
        let tilt = 84_381.448 - centuries * (46.815 + centuries * (0.000_59 - centuries * 0.001_813)) + swing;
        let tilt = arc_seconds(tilt).to_radians();

        let aberration = -20.489_8 / distance;
        let longitude = (longitude + arc_seconds(nutation + aberration)).to_radians();
        Self {
            right_ascension: (tilt.cos() * longitude.sin()).atan2(longitude.cos()).to_degrees(),
            declination: (tilt.sin() * longitude.sin()).asin().to_degrees(),
            distance,
            equinoxes: arc_seconds(nutation) * tilt.cos(),
        }
    }

    /// How far west of the meridian it stands, in degrees, not brought to one turn.
    pub(super) fn hour_angle(&self, days: f64, longitude: f64) -> f64 {
        let centuries = days / 36_525.0;
        let turned = 280.460_618_37 + 360.985_647_366_29 * days + 0.000_387_933 * centuries * centuries;
        turned + self.equinoxes + longitude - self.right_ascension
    }

    /// How high its centre stands above the horizon, in degrees, were there no air.
    pub(super) fn altitude(&self, days: f64, latitude: f64, longitude: f64) -> f64 {
        let hour_angle = self.hour_angle(days, longitude).to_radians();
        let (latitude, declination) = (latitude.to_radians(), self.declination.to_radians());
        let sine = latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos();
        let altitude = sine.clamp(-1.0, 1.0).asin();
        // From the ground it is seen a little lower than from the centre.
        altitude.to_degrees() - arc_seconds(8.794 / self.distance) * altitude.cos()
    }

    /// Half of its width, in degrees.
    pub(super) fn radius(&self) -> f64 {
        arc_seconds(959.63 / self.distance)
    }
}

fn series(rows: &[&[Term]], centuries: f64) -> f64 {
    let time = centuries / 10.0;
    let row = |terms: &[Term]| terms.iter().map(|(size, phase, rate)| size * (phase + rate * time).cos()).sum::<f64>();
    rows.iter().rev().fold(0.0, |sum, terms| sum * time + row(terms)) * 1e-8
}

const fn arc_seconds(seconds: f64) -> f64 {
    seconds / 3_600.0
}
