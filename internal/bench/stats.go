package bench

import (
	"math"
	"slices"
	"time"
)

// median of at least one value; it sorts values.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}

// percentile is the nearest-rank percentile p (0..100) of sorted values.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// rate is n in a time, a second.
func rate(n int64, took time.Duration) float64 {
	return float64(n) / took.Seconds()
}

// rounded keeps three significant digits and a bit: figures that differ more
// from run to run are not worth more.
func rounded(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-3)
	if scale > 1 {
		return math.Round(v/scale) * scale
	}
	return math.Round(v*1000) / 1000
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
