//go:build linux

package faults_test

import "os"

// rounds is how often a fault is made: a few times with every change, many
// times in a long run (make soak).
func rounds(short, long int) int {
	if os.Getenv("BELFRY_SOAK") != "" {
		return long
	}
	return short
}
