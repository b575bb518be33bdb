package app

import "time"

// machine reads the machine's clock. It is a file of its own so that
// internal/faults can build the program with one in its place that steps.
func machine() time.Time { return time.Now() }
