//go:build !linux

package bench

import "os/exec"

// dieWithParent does nothing where the kernel knows no such thing.
func dieWithParent(*exec.Cmd) {}
