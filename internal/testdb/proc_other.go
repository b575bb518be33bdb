//go:build !linux

package testdb

import "syscall"

// process has nothing to arrange where tests do not run as root and the kernel
// has no parent-death signal.
func process(syscall.Signal, ...string) (*syscall.SysProcAttr, error) {
	return &syscall.SysProcAttr{}, nil
}

func owner(*syscall.SysProcAttr) (uid, gid int, ok bool) { return 0, 0, false }

func copyCredential(_, _ *syscall.SysProcAttr) {}
