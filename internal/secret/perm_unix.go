//go:build !windows

package secret

// worldless is true where file modes do not say who may read.
const worldless = false
