package bench

import (
	"os"
	"time"
)

// fsync is the median time of making 4 KiB durable in a folder.
func fsync(dir string, rounds int) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "fsync")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	var times []float64
	for range rounds {
		if _, err = f.Write(block); err != nil {
			return 0, err
		}
		start := time.Now()
		if err = f.Sync(); err != nil {
			return 0, err
		}
		times = append(times, float64(time.Since(start)))
	}
	return time.Duration(median(times)), nil
}
