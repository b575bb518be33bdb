//go:build !race

package testtime

const raced = false
